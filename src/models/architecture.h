// Sizes of a new, small Stable Diffusion model: the few numbers from which the configs of its parts follow.
#pragma once

#include <cstdint>
#include <vector>

#include "models/clip_text.h"
#include "models/unet_config.h"
#include "models/vae.h"

namespace emulsion::models {

/// The defaults are those of the quickstart's model: 64 pixels, 16 x 16 latents.
struct ArchitectureConfig {
  int64_t resolution = 64;
  std::vector<int64_t> vae_channels = {16, 32, 64};
  int64_t vae_layers = 1;
  int64_t vae_groups = 4;
  bool vae_attention = false;
  int64_t latent_channels = 4;
  std::vector<int64_t> unet_channels = {64, 64, 128};
  int64_t unet_layers = 1;
  int64_t unet_groups = 8;
  int64_t unet_head_width = 32;
  int64_t unet_first_attention_level = 1;
  int64_t text_width = 128;
  int64_t text_layers = 2;
  int64_t text_heads = 4;
  int64_t text_merges = 4000;

  template <class V>
  void fields(V& v) {
    v("resolution", resolution, "Side of the pictures that the model is made for.").min(8).unit("px");
    v("vae_channels", vae_channels, "Channels per level of the autoencoder; each level but the last halves the side.").min(1);
    v("vae_layers", vae_layers, "Residual blocks per level of the autoencoder.").min(1);
    v("vae_groups", vae_groups, "Groups of the autoencoder's group norms.").min(1);
    v("vae_attention", vae_attention, "Self-attention in the middle of the autoencoder.");
    v("latent_channels", latent_channels, "Channels of the latents.").min(1);
    v("unet_channels", unet_channels, "Channels per level of the U-Net.").min(1);
    v("unet_layers", unet_layers, "Residual blocks per level of the U-Net.").min(1);
    v("unet_groups", unet_groups, "Groups of the U-Net's group norms.").min(1);
    v("unet_head_width", unet_head_width, "Channels per attention head.").min(1);
    v("unet_first_attention_level", unet_first_attention_level, "First level of the U-Net with cross-attention, from 0.").min(0);
    v("text_width", text_width, "Width of the text encoder, and of the U-Net's cross-attention.").min(1);
    v("text_layers", text_layers, "Layers of the text encoder.").min(1);
    v("text_heads", text_heads, "Attention heads of the text encoder.").min(1);
    v("text_merges", text_merges, "Size of the vocabulary: the first so many of CLIP's 48,894 merges.").min(0).max(48894);
  }
};

/// Throw Error{config} when the sizes do not fit together.
VaeConfig vae_config(const ArchitectureConfig& architecture);
UNetConfig unet_config(const ArchitectureConfig& architecture);
ClipTextConfig clip_text_config(const ArchitectureConfig& architecture);

}  // namespace emulsion::models
