// LoRA (Hu et al. 2021, arXiv:2106.09685) on linear and convolution leaves.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "adapters/adapter.h"
#include "adapters/config.h"
#include "core/random.h"
#include "nn/param_store.h"

namespace emulsion::adapters {

/// What is left out by chance while training (nn/chance.h), as kohya's networks.lora has it.
struct LoraDropout {
  double number = 0, rank = 0, module = 0;  // probabilities
  uint64_t layer = 0;                       // hash_name of its path
  bool any() const { return number > 0 || rank > 0 || module > 0; }
};

/// What the config says for the layer of this name.
LoraDropout dropout_of(const AdapterConfig& config, const std::string& name);

/// y + strength * alpha/rank * up(down(x)). The full update is never formed.
///
/// Shapes: linear: down [r, in], up [out, r]. Convolution: down [r, in, k, k] with the leaf's stride and padding,
/// up [out, r, 1, 1].
class LoraAdapter : public Adapter {
 public:
  LoraAdapter(const nn::Leaf& leaf, Tensor down, Tensor up, double alpha);

  Tensor map_output(const Tensor& y, const Tensor& x) const override;
  std::optional<nn::LowRank> low_rank() const override;
  std::optional<Tensor> bake(const Tensor& w) const override;
  std::vector<Part> parts() override { return {{"lora_down.weight", &down}, {"lora_up.weight", &up}}; }
  NamedTensors constants() const override { return {{"alpha", at::scalar_tensor(alpha, at::kFloat)}}; }

  int64_t rank() const { return down.size(0); }
  /// Frobenius norm of the whole update at strength 1.
  double norm() const;
  double scale() const { return strength * alpha / static_cast<double>(rank()); }

  Tensor down, up;
  double alpha;
  LoraDropout dropout;
  /// Where both began, if at a part of the weight, which lacks it: {down, up}.
  std::optional<std::array<Tensor, 2>> origin;

 private:
  Tensor dropped(const Tensor& inner) const;
};

/// Moves the strongest part of the leaf's weight into the adapter, so that both together are as before.
///   pissa  U_r sqrt(S_r / scale) and sqrt(S_r / scale) V_r^T of the weight's singular value decomposition
///   olora  Q_r and R_r of its QR decomposition
/// Source: Meng et al. 2024, arXiv:2404.02948, eq. 2 to 4; Bueyuekakyuez 2024, arXiv:2406.01775; as in PEFT, which divides by the
/// scale for pissa only. Throws: Error{config} if the rank is larger than the weight's.
void start_at_weight(LoraInit init, LoraAdapter& adapter, nn::Param& weight);

/// The same effect on a weight that still has what the adapter began with: of twice the rank, where there is such a thing.
std::unique_ptr<LoraAdapter> relative_to_whole_weight(const LoraAdapter& adapter, const nn::Leaf& leaf);

/// A fresh adapter for the leaf; draws `down` at an address made from `name`.
std::unique_ptr<LoraAdapter> new_lora(const AdapterConfig& config, int64_t rank, double alpha, const nn::Leaf& leaf,
                                      const std::string& name, const Rng& rng);

}  // namespace emulsion::adapters
