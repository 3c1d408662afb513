// The text-conditioned U-Net of Stable Diffusion (Rombach et al. 2022, arXiv:2112.10752), at any config.
//
// Structure and names follow diffusers' UNet2DConditionModel, so a tensor's path is its checkpoint key.
#pragma once

#include <optional>
#include <vector>

#include "core/tensor.h"
#include "models/unet_config.h"
#include "nn/layers.h"

namespace emulsion::models {

/// What a denoiser is told besides the noisy latent and the timestep.
struct Conditioning {
  Tensor context;        // [B, L, D] text states
  Tensor pooled = {};    // [B, P], only with text_time_conditioning
  Tensor size_ids = {};  // [B, 6] float32, only with text_time_conditioning: original height and width, top and left of
                         // the crop, target height and width, in pixels
  Tensor guidance = {};  // [B, time_cond_proj_dim], see guidance_embedding; may be left out

  /// For a network of another dtype or device; size ids stay float32.
  Conditioning to(const at::TensorOptions& options) const;
};

/// The guidance scale as models that were distilled with it read it (Luo et al. 2023, arXiv:2310.04378): sinusoids of
/// 1000 (scale - 1). Shapes: scales [B] -> [B, width] float32.
Tensor guidance_embedding(const Tensor& scales, int64_t width);

/// Timestep -> feature vector (Vaswani et al. 2017, section 3.5, as DDPM uses it).
/// Shapes: timesteps [N] of any dtype -> [N, width] float32.
Tensor sinusoidal_embedding(const Tensor& timesteps, int64_t width, bool flip_sin_to_cos, double freq_shift);

class TimestepMlp {
 public:
  /// `condition_width` 0: no condition.
  TimestepMlp(const nn::Scope& scope, int64_t in, int64_t width, int64_t condition_width = 0);
  /// `condition` [N, condition_width] may be undefined.
  Tensor operator()(const Tensor& x, const Tensor& condition = {}) const;

 private:
  nn::Linear linear_1_;
  std::optional<nn::Linear> cond_proj_;
  nn::Linear linear_2_;
};

struct ResnetOptions {
  int64_t time_width = 0;    // 0: no time embedding (autoencoder)
  int64_t groups = 32;
  double eps = 1e-6;
  bool scale_shift = false;  // the time embedding scales and shifts the second norm's output instead of being added before it
  double output_scale = 1;   // the sum of block and skip is divided by it
};

/// Norm, SiLU, convolution, twice, with the time embedding added between; plus a skip.
class ResnetBlock {
 public:
  ResnetBlock(const nn::Scope& scope, int64_t in, int64_t out, const ResnetOptions& options);
  /// x [B, in, h, w], time [B, time_width] (after SiLU) -> [B, out, h, w].
  Tensor operator()(const Tensor& x, const Tensor& time) const;

 private:
  Tensor forward(const Tensor& x, const Tensor& time) const;

  bool scale_shift_;
  double output_scale_;
  nn::GroupNorm norm1_;
  nn::Conv2d conv1_;
  std::optional<nn::Linear> time_emb_proj_;
  nn::GroupNorm norm2_;
  nn::Conv2d conv2_;
  std::optional<nn::Conv2d> conv_shortcut_;
};

/// Queries from x, keys and values from `context`.
class Attention {
 public:
  /// `upcast`: attention weights are computed in float32.
  Attention(const nn::Scope& scope, int64_t width, int64_t context_width, int64_t heads, bool upcast);
  Tensor operator()(const Tensor& x, const Tensor& context) const;

 private:
  int64_t heads_;
  bool upcast_;
  nn::Linear to_q_, to_k_, to_v_, to_out_;
};

/// What the spatial transformers of a level share.
struct TransformerOptions {
  int64_t heads = 8;
  int64_t context_width = 768;
  int64_t groups = 32;
  bool linear_projection = false;
  bool only_cross_attention = false;
  bool upcast_attention = false;
};

/// Self-attention (with only_cross_attention: over the context too), cross-attention, feed-forward; each with layer norm
/// before and a skip around.
class TransformerBlock {
 public:
  TransformerBlock(const nn::Scope& scope, int64_t width, const TransformerOptions& options);
  Tensor operator()(const Tensor& x, const Tensor& context) const;

 private:
  Tensor forward(const Tensor& x, const Tensor& context) const;

  bool only_cross_attention_;
  nn::LayerNorm norm1_;
  Attention attn1_;
  nn::LayerNorm norm2_;
  Attention attn2_;
  nn::LayerNorm norm3_;
  nn::Linear ff_in_, ff_out_;
};

/// Image -> tokens -> transformer blocks -> image, with a skip.
class SpatialTransformer {
 public:
  SpatialTransformer(const nn::Scope& scope, int64_t channels, const TransformerOptions& options, int64_t depth);
  Tensor operator()(const Tensor& x, const Tensor& context) const;

 private:
  nn::GroupNorm norm_;
  std::optional<nn::Linear> linear_in_, linear_out_;  // use_linear_projection
  std::optional<nn::Conv2d> conv_in_, conv_out_;      // otherwise
  std::vector<TransformerBlock> blocks_;
};

class UNet {
 public:
  UNet(const nn::Scope& scope, UNetConfig config);

  /// Shapes:  x [B, in_channels, h, w]; timesteps [B] (integer or float).
  /// Returns: [B, out_channels, h, w] in the dtype of x. Differentiable.
  /// Throws:  Error{shape} when the conditioning does not fit the config.
  Tensor forward(const Tensor& x, const Tensor& timesteps, const Conditioning& conditioning) const;

  const UNetConfig& config() const { return config_; }

 private:
  struct Level {
    std::vector<ResnetBlock> resnets;
    std::vector<SpatialTransformer> attentions;  // empty, or one per resnet
    std::optional<nn::Conv2d> resample;          // down- or upsampler
  };
  ResnetOptions resnet_options() const;
  TransformerOptions transformer_options(size_t level) const;
  Level down_level(const nn::Scope& scope, size_t level, int64_t in) const;
  Level middle(const nn::Scope& scope) const;
  Level up_level(const nn::Scope& scope, size_t position) const;
  Tensor time_embedding(const Tensor& timesteps, const Conditioning& conditioning, at::ScalarType dtype) const;

  UNetConfig config_;
  int64_t time_width_;
  nn::Conv2d conv_in_;
  TimestepMlp time_embedding_;
  std::optional<TimestepMlp> add_embedding_;
  std::vector<Level> down_, up_;
  Level mid_;
  nn::GroupNorm conv_norm_out_;
  nn::Conv2d conv_out_;
};

}  // namespace emulsion::models
