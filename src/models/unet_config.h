// The U-Net's architecture as data: every SD family and the test models are rows of this struct.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace emulsion::models {

/// Transformer blocks in each spatial transformer of a level: one number for all of them, or one for each.
using Depths = std::vector<int64_t>;

enum class MidBlock {
  UNetMidBlock2DCrossAttn,  // residual block, transformer, residual block
  UNetMidBlock2D,           // one residual block
  none,                     // null in the file
};

/// Field names are those of diffusers' UNet2DConditionModel config.json.
struct UNetConfig {
  int64_t sample_size = 64;  // latent height and width that the model was made for
  int64_t in_channels = 4;
  int64_t out_channels = 4;
  std::vector<int64_t> block_out_channels = {320, 640, 1280, 1280};
  std::vector<std::string> down_block_types = {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                                               "CrossAttnDownBlock2D", "DownBlock2D"};
  std::vector<std::string> up_block_types = {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
                                             "CrossAttnUpBlock2D"};
  MidBlock mid_block_type = MidBlock::UNetMidBlock2DCrossAttn;
  std::vector<int64_t> layers_per_block = {2, 2, 2, 2};                      // one entry per level
  std::vector<int64_t> heads = {8, 8, 8, 8};                                 // attention heads per level ("attention_head_dim")
  std::vector<Depths> transformer_layers_per_block = {{1}, {1}, {1}, {1}};   // one entry per level
  std::vector<Depths> reverse_transformer_layers_per_block;                  // one per up block; empty: the above, reversed
  std::vector<bool> only_cross_attention = {false, false, false, false};     // attn1 reads the context too; one per level
  int64_t cross_attention_dim = 768;
  int64_t norm_num_groups = 32;
  double norm_eps = 1e-5;
  int64_t downsample_padding = 1;
  double mid_block_scale_factor = 1;
  int64_t conv_in_kernel = 3;
  int64_t conv_out_kernel = 3;
  bool use_linear_projection = false;
  bool upcast_attention = false;         // attention weights in float32, whatever the dtype
  bool scale_shift = false;              // resnet_time_scale_shift: "scale_shift" instead of "default"
  bool center_input_sample = false;
  bool flip_sin_to_cos = true;
  double freq_shift = 0;
  int64_t time_embedding_dim = 0;        // 0: 4 * block_out_channels[0]
  int64_t time_cond_proj_dim = 0;        // width of Conditioning::guidance (LCM); 0: none
  bool text_time_conditioning = false;   // addition_embed_type "text_time" (SDXL)
  int64_t addition_time_embed_dim = 256;
  int64_t projection_class_embeddings_input_dim = 0;

  /// Width of Conditioning::pooled; 0: not used.
  int64_t pooled_dim() const {
    return text_time_conditioning ? projection_class_embeddings_input_dim - 6 * addition_time_embed_dim : 0;
  }

  bool operator==(const UNetConfig&) const = default;
};

/// Reads diffusers' config.json text. `file` is named in errors.
/// Throws Error{unsupported} for an option that is not built, Error{format} for a malformed one.
UNetConfig unet_config_from_json(const std::string& text, const std::string& file);

/// The config.json that diffusers loads.
std::string to_json(const UNetConfig& config);

}  // namespace emulsion::models
