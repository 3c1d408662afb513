// The U-Net's config.json as diffusers writes it.
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "models/unet_config.h"

namespace emulsion::models {
namespace {

using Json = nlohmann::ordered_json;

/// One number where all levels agree, as diffusers itself writes it: parts of it cannot read a list there.
Json per_level(const std::vector<int64_t>& values) {
  const bool same = std::all_of(values.begin(), values.end(), [&](int64_t v) { return v == values.front(); });
  return same ? Json(values.front()) : Json(values);
}

/// The same for transformer depths, whose levels may be lists themselves.
Json per_level(const std::vector<Depths>& levels) {
  Json list = Json::array();
  for (const Depths& depths : levels) list.push_back(depths.size() == 1 ? Json(depths.front()) : Json(depths));
  const bool same = std::all_of(list.begin(), list.end(), [&](const Json& e) { return e.is_number() && e == list.front(); });
  return same ? list.front() : list;
}

Json mid_block_name(MidBlock type) {
  switch (type) {
    case MidBlock::UNetMidBlock2DCrossAttn: return "UNetMidBlock2DCrossAttn";
    case MidBlock::UNetMidBlock2D: return "UNetMidBlock2D";
    case MidBlock::none: return nullptr;
  }
  throw Error(ErrorCode::internal, "mid block type");
}

/// Options that few models have: written only where they differ from diffusers' defaults.
void add_rare_options(const UNetConfig& c, Json& j) {
  const UNetConfig usual;
  if (c.mid_block_type != usual.mid_block_type) j["mid_block_type"] = mid_block_name(c.mid_block_type);
  if (!c.reverse_transformer_layers_per_block.empty()) {
    Json list = Json::array();
    for (const Depths& depths : c.reverse_transformer_layers_per_block) {
      list.push_back(depths.size() == 1 ? Json(depths.front()) : Json(depths));
    }
    j["reverse_transformer_layers_per_block"] = list;
  }
  if (std::find(c.only_cross_attention.begin(), c.only_cross_attention.end(), true) != c.only_cross_attention.end()) {
    j["only_cross_attention"] = c.only_cross_attention;
  }
  if (c.upcast_attention) j["upcast_attention"] = true;
  if (c.scale_shift) j["resnet_time_scale_shift"] = "scale_shift";
  if (c.center_input_sample) j["center_input_sample"] = true;
  if (c.conv_in_kernel != usual.conv_in_kernel) j["conv_in_kernel"] = c.conv_in_kernel;
  if (c.conv_out_kernel != usual.conv_out_kernel) j["conv_out_kernel"] = c.conv_out_kernel;
  if (c.time_embedding_dim > 0) j["time_embedding_dim"] = c.time_embedding_dim;
  if (c.time_cond_proj_dim > 0) j["time_cond_proj_dim"] = c.time_cond_proj_dim;
  if (c.mid_block_scale_factor != 1) j["mid_block_scale_factor"] = c.mid_block_scale_factor;
  if (c.text_time_conditioning) {
    j["addition_embed_type"] = "text_time";
    j["addition_time_embed_dim"] = c.addition_time_embed_dim;
    j["projection_class_embeddings_input_dim"] = c.projection_class_embeddings_input_dim;
  }
}

}  // namespace

std::string to_json(const UNetConfig& c) {
  Json j = {{"_class_name", "UNet2DConditionModel"},
            {"act_fn", "silu"},
            {"attention_head_dim", per_level(c.heads)},
            {"block_out_channels", c.block_out_channels},
            {"center_input_sample", false},
            {"cross_attention_dim", c.cross_attention_dim},
            {"down_block_types", c.down_block_types},
            {"downsample_padding", c.downsample_padding},
            {"flip_sin_to_cos", c.flip_sin_to_cos},
            {"freq_shift", c.freq_shift},
            {"in_channels", c.in_channels},
            {"layers_per_block", per_level(c.layers_per_block)},
            {"mid_block_scale_factor", 1},
            {"norm_eps", c.norm_eps},
            {"norm_num_groups", c.norm_num_groups},
            {"out_channels", c.out_channels},
            {"sample_size", c.sample_size},
            {"transformer_layers_per_block", per_level(c.transformer_layers_per_block)},
            {"up_block_types", c.up_block_types},
            {"use_linear_projection", c.use_linear_projection}};
  if (c.freq_shift == std::floor(c.freq_shift)) j["freq_shift"] = static_cast<int64_t>(c.freq_shift);
  add_rare_options(c, j);
  return j.dump(2) + "\n";
}

}  // namespace emulsion::models
