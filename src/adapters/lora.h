// LoRA (Hu et al. 2021, arXiv:2106.09685) on linear and convolution leaves.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "adapters/adapter.h"
#include "adapters/config.h"
#include "core/random.h"

namespace emulsion::adapters {

/// What is left out by chance while training (nn/chance.h), as kohya's networks.lora has it.
struct LoraDropout {
  double number = 0, rank = 0, module = 0;  // probabilities
  uint64_t layer = 0;                       // hash_name of its path
  bool any() const { return number > 0 || rank > 0 || module > 0; }
};

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
  double scale() const { return strength * alpha / static_cast<double>(rank()); }

  Tensor down, up;
  double alpha;
  LoraDropout dropout;

 private:
  Tensor dropped(const Tensor& inner) const;
};

/// A fresh adapter for the leaf; draws `down` at an address made from `name`.
std::unique_ptr<LoraAdapter> new_lora(const AdapterConfig& config, int64_t rank, double alpha, const nn::Leaf& leaf,
                                      const std::string& name, const Rng& rng);

}  // namespace emulsion::adapters
