// The KL autoencoder of latent diffusion (Rombach et al. 2022, arXiv:2112.10752), at any config.
//
// Structure and names follow diffusers' AutoencoderKL, so a tensor's path is its checkpoint key.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "models/unet.h"
#include "nn/layers.h"

namespace emulsion::models {

/// Field names are those of diffusers' AutoencoderKL config.json.
struct VaeConfig {
  int64_t sample_size = 512;
  int64_t in_channels = 3;
  int64_t latent_channels = 4;
  std::vector<int64_t> block_out_channels = {128, 256, 512, 512};
  int64_t layers_per_block = 2;
  int64_t norm_num_groups = 32;
  bool mid_block_add_attention = true;
  bool use_quant_conv = true;
  bool use_post_quant_conv = true;
  double scaling_factor = 0.18215;
  double shift_factor = 0;
  std::vector<double> latents_mean = {}, latents_std = {};  // per channel; empty: 0 and 1
  bool force_upcast = false;  // float16 overflows in it

  /// Pixels per latent position and side.
  int64_t factor() const { return int64_t{1} << (block_out_channels.size() - 1); }

  bool operator==(const VaeConfig&) const = default;
};

/// Latents of the autoencoder -> latents in the scale of the U-Net: (z - shift_factor - mean) scaling_factor / std.
Tensor scale_latents(const VaeConfig& config, const Tensor& latents);
/// The way back.
Tensor unscale_latents(const VaeConfig& config, const Tensor& latents);

VaeConfig vae_config_from_json(const std::string& text, const std::string& file);
std::string to_json(const VaeConfig& config);

/// Diagonal Gaussian over latents: `moments` [B, 2z, h, w] = mean and log-variance (clamped to [-30, 20]).
struct Posterior {
  explicit Posterior(const Tensor& moments);
  Tensor mean, logvar;  // [B, z, h, w]
  /// mean + std * eps.
  Tensor sample(const Tensor& eps) const;
  /// KL to the standard normal, summed over a latent, averaged over the batch (Kingma & Welling 2013,
  /// arXiv:1312.6114, appendix B).
  Tensor kl() const;
};

class Vae {
 public:
  Vae(const nn::Scope& scope, VaeConfig config);

  /// pixels [B, 3, H, W] in [-1, 1] -> moments [B, 2z, H/f, W/f]. Throws Error{shape} if f does not divide H and W.
  Tensor encode(const Tensor& pixels) const;
  /// latents [B, z, h, w], not scaled -> pixels [B, 3, f h, f w], about [-1, 1].
  Tensor decode(const Tensor& latents) const;

  const VaeConfig& config() const { return config_; }

 private:
  /// Self-attention over positions, one head.
  class SpatialAttention {
   public:
    SpatialAttention(const nn::Scope& scope, int64_t channels, int64_t groups);
    Tensor operator()(const Tensor& x) const;

   private:
    nn::GroupNorm group_norm_;
    nn::Linear to_q_, to_k_, to_v_, to_out_;
  };
  struct Level {
    std::vector<ResnetBlock> resnets;
    std::optional<nn::Conv2d> resample;
  };
  struct Middle {
    Middle(const nn::Scope& scope, const VaeConfig& config);
    Tensor operator()(const Tensor& x) const;
    ResnetBlock first;
    std::optional<SpatialAttention> attention;
    ResnetBlock second;
  };
  Level make_level(const nn::Scope& scope, int64_t in, int64_t out, int64_t layers) const;

  VaeConfig config_;
  nn::Conv2d encoder_in_;
  std::vector<Level> down_;
  Middle encoder_mid_;
  nn::GroupNorm encoder_norm_;
  nn::Conv2d encoder_out_;
  nn::Conv2d decoder_in_;
  std::vector<Level> up_;
  Middle decoder_mid_;
  nn::GroupNorm decoder_norm_;
  nn::Conv2d decoder_out_;
  std::optional<nn::Conv2d> quant_conv_, post_quant_conv_;
};

}  // namespace emulsion::models
