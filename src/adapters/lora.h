// LoRA (Hu et al. 2021, arXiv:2106.09685) on linear and convolution leaves.
#pragma once

#include <array>
#include <memory>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/random.h"
#include "core/tensor.h"
#include "nn/leaf.h"

namespace emulsion::adapters {

enum class LoraInit { kaiming, gaussian };
constexpr auto enum_names(LoraInit) {
  return std::to_array<std::pair<LoraInit, const char*>>(
      {{LoraInit::kaiming, "kaiming"}, {LoraInit::gaussian, "gaussian"}});
}

struct LoraConfig {
  int64_t rank = 16;
  double alpha = 16;
  int64_t conv_rank = 0;
  double conv_alpha = 0;
  LoraInit init = LoraInit::kaiming;
  std::vector<std::string> targets = {"unet.*.attn*.to_*"};

  template <class V>
  void fields(V& v) {
    v("rank", rank, "Rank of the update of linear layers and 1x1 convolutions.").min(1).max(1024);
    v("alpha", alpha, "Numerator of the scale: scale = alpha / rank.").above(0);
    v("conv_rank", conv_rank, "Rank of the update of larger convolutions; 0: that of `rank`.").min(0).max(1024);
    v("conv_alpha", conv_alpha, "Alpha of larger convolutions; 0: that of `alpha`.").min(0);
    v("init", init, "How `down` starts: kaiming is U(-1/sqrt(fan_in), 1/sqrt(fan_in)), gaussian N(0, 1/rank^2). `up` starts at zero.");
    v("targets", targets, "Glob patterns over layer paths like unet.mid_block.attentions.0.proj_in; a leading '!' excludes.");
  }
};

/// y + strength * alpha/rank * up(down(x)). The full update is never formed.
///
/// Shapes: linear: down [r, in], up [out, r]. Convolution: down [r, in, k, k] with the leaf's stride and padding,
/// up [out, r, 1, 1].
class LoraAdapter : public nn::LeafAdapter {
 public:
  LoraAdapter(const nn::Leaf& leaf, Tensor down, Tensor up, double alpha);

  Tensor map_output(const Tensor& y, const Tensor& x) const override;
  std::optional<nn::LowRank> low_rank() const override;
  std::optional<Tensor> bake(const Tensor& w) const override;
  NamedTensors params() const override { return {{"lora_down.weight", down}, {"lora_up.weight", up}}; }

  int64_t rank() const { return down.size(0); }
  double scale() const { return strength * alpha / static_cast<double>(rank()); }

  Tensor down, up;
  double alpha;
  double strength = 1;

 private:
  const nn::Leaf& leaf_;
};

/// A fresh adapter for the leaf; draws `down` at an address made from `name`.
std::unique_ptr<LoraAdapter> new_lora(const LoraConfig& config, const nn::Leaf& leaf, const std::string& name,
                                      const Rng& rng);

}  // namespace emulsion::adapters
