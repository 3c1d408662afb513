#include "weights/name_rules.h"

#include <map>
#include <optional>

#include "core/error.h"
#include "models/model.h"

namespace emulsion::weights {
namespace {

/// What a module, or one tensor, is called on both sides. The transform is for matrices; biases and norms stay as they are.
struct Pair {
  std::string foreign;
  Transform transform = Transform::none;
};
/// By the canonical prefix.
using Pairs = std::map<std::string, Pair>;

/// The longest prefix of `path` that ends at a dot, or is all of it, and has a pair.
const Pairs::value_type* find_pair(const Pairs& pairs, std::string path) {
  while (true) {
    if (const auto found = pairs.find(path); found != pairs.end()) return &*found;
    const size_t dot = path.rfind('.');
    if (dot == path.npos) return nullptr;
    path.resize(dot);
  }
}

NameRules expand(const nn::ParamStore& store, const Pairs& pairs, const char* layout) {
  NameRules rules;
  for (const nn::Param& param : store.params()) {
    const auto* pair = find_pair(pairs, param.path);
    EMULSION_CHECK(pair != nullptr, unsupported, "[{}] '{}' has no name in this layout; use the diffusers layout", layout,
                   param.path);
    const auto& [canonical, foreign] = *pair;
    const bool whole = canonical == param.path;  // the pair names this very tensor
    const bool applies = whole || param.shape.size() == 2;
    rules.push_back({param.path, foreign.foreign + param.path.substr(canonical.size()),
                     applies ? foreign.transform : Transform::none, param.shape});
  }
  return rules;
}

NameRules identity(const nn::ParamStore& store) {
  NameRules rules;
  for (const nn::Param& param : store.params()) rules.push_back({param.path, param.path, Transform::none, param.shape});
  return rules;
}

// --- LDM: U-Net --------------------------------------------------------------------------------------

void add_unet_resnet(Pairs& pairs, const std::string& ours, const std::string& theirs) {
  pairs[ours + ".norm1"] = {theirs + ".in_layers.0"};
  pairs[ours + ".conv1"] = {theirs + ".in_layers.2"};
  pairs[ours + ".time_emb_proj"] = {theirs + ".emb_layers.1"};
  pairs[ours + ".norm2"] = {theirs + ".out_layers.0"};
  pairs[ours + ".conv2"] = {theirs + ".out_layers.3"};
  pairs[ours + ".conv_shortcut"] = {theirs + ".skip_connection"};
}

/// LDM numbers all layers of the way down in one row, downsamplers included.
void add_down_blocks(Pairs& pairs, const models::UNetConfig& c) {
  size_t n = 1;
  for (size_t i = 0; i < c.block_out_channels.size(); ++i) {
    const std::string block = fmt::format("down_blocks.{}", i);
    for (int64_t j = 0; j < c.layers_per_block[i]; ++j, ++n) {
      add_unet_resnet(pairs, fmt::format("{}.resnets.{}", block, j), fmt::format("input_blocks.{}.0", n));
      pairs[fmt::format("{}.attentions.{}", block, j)] = {fmt::format("input_blocks.{}.1", n)};
    }
    if (i + 1 < c.block_out_channels.size()) {
      pairs[block + ".downsamplers.0.conv"] = {fmt::format("input_blocks.{}.0.op", n++)};
    }
  }
}

/// On the way up an upsampler stands in the last layer of its level, behind the attention if there is one.
void add_up_blocks(Pairs& pairs, const models::UNetConfig& c) {
  const size_t levels = c.block_out_channels.size();
  size_t n = 0;
  for (size_t i = 0; i < levels; ++i) {
    const std::string block = fmt::format("up_blocks.{}", i);
    for (int64_t j = 0; j <= c.layers_per_block[levels - 1 - i]; ++j, ++n) {
      add_unet_resnet(pairs, fmt::format("{}.resnets.{}", block, j), fmt::format("output_blocks.{}.0", n));
      pairs[fmt::format("{}.attentions.{}", block, j)] = {fmt::format("output_blocks.{}.1", n)};
    }
    const int place = c.up_block_types[i] == "CrossAttnUpBlock2D" ? 2 : 1;
    pairs[block + ".upsamplers.0.conv"] = {fmt::format("output_blocks.{}.{}.conv", n - 1, place)};
  }
}

// --- LDM: autoencoder ----------------------------------------------------------------------------------

void add_vae_resnet(Pairs& pairs, const std::string& ours, const std::string& theirs) {
  pairs[ours] = {theirs};
  pairs[ours + ".conv_shortcut"] = {theirs + ".nin_shortcut"};
}

void add_vae_side(Pairs& pairs, const std::string& side) {
  pairs[side + ".conv_in"] = {side + ".conv_in"};
  pairs[side + ".conv_out"] = {side + ".conv_out"};
  pairs[side + ".conv_norm_out"] = {side + ".norm_out"};
  for (const int j : {0, 1}) {
    add_vae_resnet(pairs, fmt::format("{}.mid_block.resnets.{}", side, j), fmt::format("{}.mid.block_{}", side, j + 1));
  }
  const std::string ours = side + ".mid_block.attentions.0", theirs = side + ".mid.attn_1";
  pairs[ours + ".group_norm"] = {theirs + ".norm"};
  pairs[ours + ".to_q"] = {theirs + ".q", Transform::conv1x1_as_linear};
  pairs[ours + ".to_k"] = {theirs + ".k", Transform::conv1x1_as_linear};
  pairs[ours + ".to_v"] = {theirs + ".v", Transform::conv1x1_as_linear};
  pairs[ours + ".to_out.0"] = {theirs + ".proj_out", Transform::conv1x1_as_linear};
}

// --- OpenCLIP ------------------------------------------------------------------------------------------

void add_open_clip_layer(Pairs& pairs, int64_t i) {
  const std::string ours = fmt::format("encoder.layers.{}", i), theirs = fmt::format("transformer.resblocks.{}", i);
  pairs[ours + ".layer_norm1"] = {theirs + ".ln_1"};
  pairs[ours + ".layer_norm2"] = {theirs + ".ln_2"};
  pairs[ours + ".mlp.fc1"] = {theirs + ".mlp.c_fc"};
  pairs[ours + ".mlp.fc2"] = {theirs + ".mlp.c_proj"};
  pairs[ours + ".self_attn.out_proj"] = {theirs + ".attn.out_proj"};
  const std::pair<const char*, Transform> thirds[] = {
      {"q_proj", Transform::rows_1_of_3}, {"k_proj", Transform::rows_2_of_3}, {"v_proj", Transform::rows_3_of_3}};
  for (const auto& [name, rows] : thirds) {
    pairs[fmt::format("{}.self_attn.{}.weight", ours, name)] = {theirs + ".attn.in_proj_weight", rows};
    pairs[fmt::format("{}.self_attn.{}.bias", ours, name)] = {theirs + ".attn.in_proj_bias", rows};
  }
}

/// 0, 1, 2 for the thirds; nothing for the other transforms.
std::optional<int64_t> third_of(Transform transform) {
  if (transform < Transform::rows_1_of_3) return std::nullopt;
  return static_cast<int64_t>(transform) - static_cast<int64_t>(Transform::rows_1_of_3);
}

}  // namespace

std::vector<int64_t> NameRule::foreign_shape() const {
  std::vector<int64_t> theirs = shape;
  if (transform == Transform::conv1x1_as_linear) theirs.insert(theirs.end(), {1, 1});
  if (transform == Transform::transpose) std::swap(theirs[0], theirs[1]);
  if (third_of(transform)) theirs[0] *= 3;
  return theirs;
}

NameRules ldm_names(const models::UNetConfig& config) {
  Pairs pairs = {{"time_embedding.linear_1", {"time_embed.0"}},   {"time_embedding.linear_2", {"time_embed.2"}},
                 {"add_embedding.linear_1", {"label_emb.0.0"}},   {"add_embedding.linear_2", {"label_emb.0.2"}},
                 {"conv_in", {"input_blocks.0.0"}},               {"conv_norm_out", {"out.0"}},
                 {"conv_out", {"out.2"}},                         {"mid_block.attentions.0", {"middle_block.1"}}};
  add_unet_resnet(pairs, "mid_block.resnets.0", "middle_block.0");
  add_unet_resnet(pairs, "mid_block.resnets.1", "middle_block.2");
  add_down_blocks(pairs, config);
  add_up_blocks(pairs, config);
  return expand(models::Part<models::UNet>(config).store, pairs, "LDM U-Net");
}

NameRules ldm_names(const models::VaeConfig& config) {
  Pairs pairs = {{"quant_conv", {"quant_conv"}}, {"post_quant_conv", {"post_quant_conv"}}};
  add_vae_side(pairs, "encoder");
  add_vae_side(pairs, "decoder");
  const auto levels = static_cast<int64_t>(config.block_out_channels.size());
  for (int64_t i = 0; i < levels; ++i) {
    // The way up is numbered from the fine end in LDM.
    const std::string down = fmt::format("encoder.down_blocks.{}", i), up = fmt::format("decoder.up_blocks.{}", i);
    const std::string ldm_down = fmt::format("encoder.down.{}", i), ldm_up = fmt::format("decoder.up.{}", levels - 1 - i);
    for (int64_t j = 0; j <= config.layers_per_block; ++j) {
      add_vae_resnet(pairs, fmt::format("{}.resnets.{}", down, j), fmt::format("{}.block.{}", ldm_down, j));
      add_vae_resnet(pairs, fmt::format("{}.resnets.{}", up, j), fmt::format("{}.block.{}", ldm_up, j));
    }
    pairs[down + ".downsamplers.0.conv"] = {ldm_down + ".downsample.conv"};
    pairs[up + ".upsamplers.0.conv"] = {ldm_up + ".upsample.conv"};
  }
  return expand(models::Part<models::Vae>(config).store, pairs, "LDM autoencoder");
}

NameRules open_clip_names(const models::ClipTextConfig& config, bool transpose_projection) {
  Pairs pairs = {{"embeddings.token_embedding", {"token_embedding"}},
                 {"embeddings.position_embedding.weight", {"positional_embedding"}},
                 {"final_layer_norm", {"ln_final"}},
                 {"text_projection.weight",
                  {"text_projection", transpose_projection ? Transform::transpose : Transform::none}}};
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) add_open_clip_layer(pairs, i);
  return expand(models::Part<models::ClipText>(config).store, pairs, "OpenCLIP");
}

NameRules prefixed_clip_names(const models::ClipTextConfig& config) {
  NameRules rules = bare_clip_names(config);
  for (NameRule& rule : rules) {
    if (!rule.canonical.starts_with("text_projection.")) rule.foreign = "text_model." + rule.canonical;
  }
  return rules;
}

NameRules bare_clip_names(const models::ClipTextConfig& config) {
  return identity(models::Part<models::ClipText>(config).store);
}

NameRules diffusers_names(const models::UNetConfig& config) { return identity(models::Part<models::UNet>(config).store); }
NameRules diffusers_names(const models::VaeConfig& config) { return identity(models::Part<models::Vae>(config).store); }

NameRules old_diffusers_names(const models::VaeConfig& config) {
  const std::pair<const char*, const char*> renamed[] = {
      {".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}};
  NameRules rules = diffusers_names(config);
  for (NameRule& rule : rules) {
    for (const auto& [ours, theirs] : renamed) {
      const size_t at = rule.foreign.find(ours);
      if (at == rule.foreign.npos) continue;
      rule.foreign.replace(at, std::string_view(ours).size(), theirs);
      if (rule.shape.size() == 2) rule.transform = Transform::conv1x1_as_linear;
    }
  }
  return rules;
}

Tensor to_canonical(const NameRule& rule, const Tensor& foreign) {
  if (rule.transform == Transform::none) return foreign;
  if (rule.transform == Transform::transpose) return foreign.dim() == 2 ? foreign.t() : foreign;
  if (rule.transform == Transform::conv1x1_as_linear) {
    // [out, in, 1, 1]; a convolution over one axis, [out, in, 1], is known from old files.
    const bool points = foreign.dim() > 2 && foreign.numel() == foreign.size(0) * foreign.size(1);
    return points ? foreign.reshape({foreign.size(0), foreign.size(1)}) : foreign;
  }
  if (foreign.dim() == 0 || foreign.size(0) % 3 != 0) return foreign;
  const int64_t rows = foreign.size(0) / 3;
  return foreign.narrow(0, *third_of(rule.transform) * rows, rows);
}

Tensor to_foreign(Transform transform, const std::vector<Tensor>& ours) {
  if (third_of(transform)) return at::cat(ours, 0);
  if (transform == Transform::transpose) return ours.front().t();
  if (transform == Transform::conv1x1_as_linear) return ours.front().unsqueeze(-1).unsqueeze(-1);
  return ours.front();
}

}  // namespace emulsion::weights
