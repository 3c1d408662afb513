// Adapters that change a leaf's weight W: everything but plain LoRA, which never forms its update.
//
// Each kind says which weight it wants; at another strength s than 1 the leaf has W + s (wanted - W). Names of tensors are those of
// LyCORIS (github.com/KohakuBlueleaf/LyCORIS). For a convolution, "in" stands for in * kh * kw where a matrix is meant.
#pragma once

#include <memory>

#include "adapters/adapter.h"
#include "adapters/config.h"
#include "core/random.h"

namespace emulsion::adapters {

/// Tensors by the end of their name in files.
class AdapterParts {
 public:
  AdapterParts() = default;
  explicit AdapterParts(NamedTensors tensors) : tensors_(std::move(tensors)) {}

  /// Undefined if there is none.
  const Tensor& find(std::string_view name) const;
  /// Throws: Error{format} naming it.
  const Tensor& need(std::string_view name) const;

  NamedTensors& all() { return tensors_; }
  const NamedTensors& all() const { return tensors_; }

 private:
  NamedTensors tensors_;
};

/// Tensors that tell a kind; rows in which a name is found first count.
///
///   lora    lora_up [out, r], lora_mid [r, r, kh, kw] (Tucker) or none, lora_down [r, in]:     W + s up down
///   loha    hada_w1_a, w2_a [out, r], w1_b, w2_b [r, in]; t1, t2 (Tucker):                    W + s (w1_a w1_b) * (w2_a w2_b)
///   lokr    lokr_w1 or w1_a w1_b; lokr_w2 or w2_a (t2) w2_b:                                   W + s w1 (x) w2
///   ia3     weight: a factor per output, or per input where on_input is 1:                     W (1 + weight)
///   oft     oft_blocks [n, b, b], rescale [out, 1..] or none; Q = B - B^T, R = (I+Q)(I-Q)^-1:  rescale R^T W by blocks of rows
///   glora   a1.weight [in, r], a2.weight [r, in], b1.weight [out, r], b2.weight [r, in]:        W + s (W a1 a2 + b1 b2)
///   full    diff like W or none, diff_b like the bias or none:                                 W + diff, bias + diff_b
///   norm    w_norm and b_norm like a norm's weight and bias:                                    W + w_norm, bias + b_norm
/// with s = alpha / r, and for lora, loha, lokr with dora_scale [out, 1..] or [1, in, 1..] the direction of that times dora_scale.
/// Sources: LyCORIS (Yeh et al. 2024, arXiv:2309.14859); LoHa: arXiv:2108.06098; (IA)^3: arXiv:2205.05638; OFT: arXiv:2306.07280;
/// GLoRA: arXiv:2306.07967; DoRA: arXiv:2402.09353, the norm without a gradient as in its section 4.3.
class WeightAdapter : public Adapter {
 public:
  /// Throws: Error{format} for a tensor that is missing, Error{shape} for tensors that do not fit the leaf.
  WeightAdapter(const nn::Leaf& leaf, Algorithm algorithm, AdapterParts parts, double alpha, bool on_input = false);

  Tensor map_weight(const Tensor& w) const override;
  Tensor map_bias(const Tensor& b) const override;
  std::optional<Tensor> bake(const Tensor& w) const override { return map_weight(w); }
  std::vector<Part> parts() override;
  NamedTensors constants() const override;

  Algorithm algorithm() const { return algorithm_; }

 private:
  Tensor wanted(const AdapterParts& parts, const Tensor& w) const;
  const Tensor& bias_part() const;

  Algorithm algorithm_;
  AdapterParts parts_;
  double alpha_;
  bool on_input_;
};

/// The algorithm whose tensor this is by the end of its name ("hada_w1_a"), if there is one. "lora_down.weight" alone is lora.
std::optional<Algorithm> algorithm_of(std::string_view name);

/// 0 where nothing has low rank: the update is then taken as it is.
double rank_of(Algorithm algorithm, const AdapterParts& parts);

/// A fresh adapter, which changes nothing yet; random tensors are drawn at addresses made from `name`.
std::unique_ptr<WeightAdapter> new_weight_adapter(const AdapterConfig& config, const nn::Leaf& leaf, int64_t rank, double alpha,
                                                  const std::string& name, const Rng& rng);

/// Two factors of n, the smaller first: `factor` if it divides n, otherwise as near to each other as they come, the
/// smaller at most `factor`.
std::pair<int64_t, int64_t> factorization(int64_t n, int64_t factor);

}  // namespace emulsion::adapters
