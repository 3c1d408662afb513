#include "models/vae.h"

#include "core/error.h"
#include "nn/attention.h"

namespace emulsion::models {
namespace {

constexpr double kEps = 1e-6;  // of every group norm in the autoencoder

ResnetOptions resnet_options(const VaeConfig& config) { return {.groups = config.norm_num_groups, .eps = kEps}; }

Tensor per_channel(const std::vector<double>& values, const Tensor& like) {
  return at::tensor(values, at::kDouble).to(like).view({1, -1, 1, 1});
}

}  // namespace

using nn::Scope;

Tensor scale_latents(const VaeConfig& config, const Tensor& latents) {
  Tensor z = config.shift_factor == 0 ? latents : latents - config.shift_factor;
  if (!config.latents_mean.empty()) z = z - per_channel(config.latents_mean, z);
  z = z * config.scaling_factor;
  return config.latents_std.empty() ? z : z / per_channel(config.latents_std, z);
}

Tensor unscale_latents(const VaeConfig& config, const Tensor& latents) {
  Tensor z = config.latents_std.empty() ? latents : latents * per_channel(config.latents_std, latents);
  z = z / config.scaling_factor;
  if (!config.latents_mean.empty()) z = z + per_channel(config.latents_mean, z);
  return config.shift_factor == 0 ? z : z + config.shift_factor;
}

Posterior::Posterior(const Tensor& moments) {
  const auto halves = moments.chunk(2, 1);
  mean = halves[0];
  logvar = halves[1].clamp(-30.0, 20.0);
}

Tensor Posterior::sample(const Tensor& eps) const { return mean + (0.5 * logvar).exp() * eps; }

Tensor Posterior::kl() const {
  return 0.5 * (mean * mean + logvar.exp() - 1.0 - logvar).sum({1, 2, 3}).mean();
}

Vae::SpatialAttention::SpatialAttention(const Scope& scope, int64_t channels, int64_t groups)
    : group_norm_(scope / "group_norm", groups, channels, kEps),
      to_q_(scope / "to_q", channels, channels),
      to_k_(scope / "to_k", channels, channels),
      to_v_(scope / "to_v", channels, channels),
      to_out_(scope / "to_out" / 0, channels, channels) {}

Tensor Vae::SpatialAttention::operator()(const Tensor& x) const {
  const auto size = x.sizes();
  const Tensor tokens = group_norm_(x).permute({0, 2, 3, 1}).reshape({size[0], -1, size[1]});
  const Tensor out = to_out_(nn::attention(to_q_(tokens), to_k_(tokens), to_v_(tokens), 1));
  return x + out.view({size[0], size[2], size[3], size[1]}).permute({0, 3, 1, 2});
}

Vae::Middle::Middle(const Scope& scope, const VaeConfig& config)
    : first(scope / "resnets" / 0, config.block_out_channels.back(), config.block_out_channels.back(),
            resnet_options(config)),
      second(scope / "resnets" / 1, config.block_out_channels.back(), config.block_out_channels.back(),
             resnet_options(config)) {
  if (config.mid_block_add_attention) {
    attention.emplace(scope / "attentions" / 0, config.block_out_channels.back(), config.norm_num_groups);
  }
}

Tensor Vae::Middle::operator()(const Tensor& x) const {
  const Tensor h = first(x, {});
  return second(attention ? (*attention)(h) : h, {});
}

Vae::Level Vae::make_level(const Scope& scope, int64_t in, int64_t out, int64_t layers) const {
  Level made;
  for (int64_t j = 0; j < layers; ++j) {
    made.resnets.emplace_back(scope / "resnets" / j, j == 0 ? in : out, out, resnet_options(config_));
  }
  return made;
}

Vae::Vae(const Scope& scope, VaeConfig config)
    : config_(std::move(config)),
      encoder_in_(scope / "encoder" / "conv_in", config_.in_channels, config_.block_out_channels.front(), 3, 1,
                  1),
      encoder_mid_(scope / "encoder" / "mid_block", config_),
      encoder_norm_(scope / "encoder" / "conv_norm_out", config_.norm_num_groups,
                    config_.block_out_channels.back(), kEps),
      encoder_out_(scope / "encoder" / "conv_out", config_.block_out_channels.back(),
                   2 * config_.latent_channels, 3, 1, 1),
      decoder_in_(scope / "decoder" / "conv_in", config_.latent_channels, config_.block_out_channels.back(), 3,
                  1, 1),
      decoder_mid_(scope / "decoder" / "mid_block", config_),
      decoder_norm_(scope / "decoder" / "conv_norm_out", config_.norm_num_groups,
                    config_.block_out_channels.front(), kEps),
      decoder_out_(scope / "decoder" / "conv_out", config_.block_out_channels.front(), config_.in_channels, 3,
                   1, 1) {
  const auto& channels = config_.block_out_channels;
  const size_t levels = channels.size();
  for (size_t i = 0; i < levels; ++i) {
    const Scope down = scope / "encoder" / "down_blocks" / static_cast<int64_t>(i);
    down_.push_back(make_level(down, channels[i == 0 ? 0 : i - 1], channels[i], config_.layers_per_block));
    if (i + 1 < levels) {
      down_.back().resample.emplace(down / "downsamplers" / 0 / "conv", channels[i], channels[i], 3, 2, 0);
    }
  }
  for (size_t i = 0; i < levels; ++i) {
    const Scope up = scope / "decoder" / "up_blocks" / static_cast<int64_t>(i);
    const int64_t out = channels[levels - 1 - i];
    const int64_t in = i == 0 ? out : channels[levels - i];
    up_.push_back(make_level(up, in, out, config_.layers_per_block + 1));
    if (i + 1 < levels) up_.back().resample.emplace(up / "upsamplers" / 0 / "conv", out, out, 3, 1, 1);
  }
  if (config_.use_quant_conv) {
    quant_conv_.emplace(scope / "quant_conv", 2 * config_.latent_channels, 2 * config_.latent_channels, 1);
  }
  if (config_.use_post_quant_conv) {
    post_quant_conv_.emplace(scope / "post_quant_conv", config_.latent_channels, config_.latent_channels, 1);
  }
}

Tensor Vae::encode(const Tensor& pixels) const {
  const int64_t f = config_.factor();
  EMULSION_CHECK(pixels.dim() == 4 && pixels.size(1) == config_.in_channels && pixels.size(2) % f == 0 &&
                     pixels.size(3) % f == 0,
                 shape, "[vae] expected pixels [B, {}, H, W] with H and W divisible by {}, got [{}]",
                 config_.in_channels, f, fmt::join(pixels.sizes(), ", "));
  Tensor h = encoder_in_(pixels.contiguous(at::MemoryFormat::ChannelsLast));
  for (const Level& level : down_) {
    for (const ResnetBlock& block : level.resnets) h = block(h, {});
    // One row and column of zeros at the bottom and right only, as in the original.
    if (level.resample) h = (*level.resample)(at::constant_pad_nd(h, {0, 1, 0, 1}));
  }
  h = encoder_out_(encoder_norm_.then_silu(encoder_mid_(h)));
  return quant_conv_ ? (*quant_conv_)(h) : h;
}

Tensor Vae::decode(const Tensor& latents) const {
  EMULSION_CHECK(latents.dim() == 4 && latents.size(1) == config_.latent_channels, shape,
                 "[vae] expected latents [B, {}, h, w], got [{}]", config_.latent_channels,
                 fmt::join(latents.sizes(), ", "));
  Tensor h = latents.contiguous(at::MemoryFormat::ChannelsLast);
  if (post_quant_conv_) h = (*post_quant_conv_)(h);
  h = decoder_mid_(decoder_in_(h));
  for (const Level& level : up_) {
    for (const ResnetBlock& block : level.resnets) h = block(h, {});
    if (level.resample) h = (*level.resample)(at::upsample_nearest2d(h, {2 * h.size(2), 2 * h.size(3)}));
  }
  return decoder_out_(decoder_norm_.then_silu(h));
}

}  // namespace emulsion::models
