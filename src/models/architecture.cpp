#include "models/architecture.h"

#include <bit>

#include "core/error.h"

namespace emulsion::models {
namespace {

void check_divides(const char* what, int64_t divisor, const std::vector<int64_t>& widths) {
  for (const int64_t width : widths) {
    EMULSION_CHECK(width % divisor == 0, config,
                   "[model.architecture] {} = {} does not divide {} channels", what, divisor, width);
  }
}

}  // namespace

VaeConfig vae_config(const ArchitectureConfig& a) {
  EMULSION_CHECK(!a.vae_channels.empty(), config, "[model.architecture] vae_channels is empty");
  check_divides("vae_groups", a.vae_groups, a.vae_channels);
  VaeConfig c;
  c.sample_size = a.resolution;
  c.latent_channels = a.latent_channels;
  c.block_out_channels = a.vae_channels;
  c.layers_per_block = a.vae_layers;
  c.norm_num_groups = a.vae_groups;
  c.mid_block_add_attention = a.vae_attention;
  c.scaling_factor = 1;
  EMULSION_CHECK(a.resolution % c.factor() == 0, config,
                 "[model.architecture] resolution {} is not divisible by {}, what {} levels of the autoencoder halve to",
                 a.resolution, c.factor(), a.vae_channels.size());
  return c;
}

UNetConfig unet_config(const ArchitectureConfig& a) {
  const size_t levels = a.unet_channels.size();
  EMULSION_CHECK(levels >= 1, config, "[model.architecture] unet_channels is empty");
  check_divides("unet_groups", a.unet_groups, a.unet_channels);
  check_divides("unet_head_width", a.unet_head_width, a.unet_channels);
  UNetConfig c;
  c.sample_size = a.resolution / vae_config(a).factor();
  c.in_channels = c.out_channels = a.latent_channels;
  c.block_out_channels = a.unet_channels;
  c.layers_per_block.assign(levels, a.unet_layers);
  c.transformer_layers_per_block.assign(levels, {1});
  c.only_cross_attention.assign(levels, false);
  c.cross_attention_dim = a.text_width;
  c.norm_num_groups = a.unet_groups;
  c.heads.clear();
  c.down_block_types.clear();
  c.up_block_types.clear();
  for (size_t i = 0; i < levels; ++i) {
    const bool attends = static_cast<int64_t>(i) >= a.unet_first_attention_level;
    c.heads.push_back(a.unet_channels[i] / a.unet_head_width);
    c.down_block_types.push_back(attends ? "CrossAttnDownBlock2D" : "DownBlock2D");
    c.up_block_types.insert(c.up_block_types.begin(), attends ? "CrossAttnUpBlock2D" : "UpBlock2D");
  }
  return c;
}

ClipTextConfig clip_text_config(const ArchitectureConfig& a) {
  EMULSION_CHECK(a.text_width % a.text_heads == 0, config,
                 "[model.architecture] text_heads = {} does not divide text_width = {}", a.text_heads, a.text_width);
  ClipTextConfig c;
  c.vocab_size = 512 + a.text_merges + 2;
  c.hidden_size = a.text_width;
  c.intermediate_size = 4 * a.text_width;
  c.num_hidden_layers = a.text_layers;
  c.num_attention_heads = a.text_heads;
  c.projection_dim = a.text_width;
  c.bos_token_id = c.vocab_size - 2;
  c.eos_token_id = c.vocab_size - 1;
  return c;
}

}  // namespace emulsion::models
