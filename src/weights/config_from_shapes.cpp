#include "weights/config_from_shapes.h"

#include <algorithm>

#include "core/error.h"

namespace emulsion::weights {
namespace {

using models::Depths;

int64_t size_of(const PartTensors& tensors, const std::string& name, size_t axis) {
  const auto shape = tensors.shape(name);
  EMULSION_CHECK(shape && axis < shape->size(), format,
                 "[{}] expected a tensor '{}' with {} axes or more, got {}; the architecture cannot be told without it",
                 tensors.file().path().string(), name, axis + 1, tensors.describe(name));
  return (*shape)[axis];
}

/// How many of name(0), name(1), ... there are.
template <class Name>
int64_t count(const PartTensors& tensors, const Name& name) {
  int64_t n = 0;
  while (tensors.contains(name(n))) ++n;
  return n;
}

// --- U-Net -------------------------------------------------------------------------------------------

/// What stands in one numbered entry of LDM's input_blocks, middle_block or output_blocks.
struct Block {
  int64_t channels = 0;  // 0: no residual block
  int64_t depth = 0;     // of the transformer; 0: none
  bool resamples = false;
};

int64_t depth_at(const PartTensors& t, const std::string& prefix) {
  return count(t, [&](int64_t k) { return fmt::format("{}.transformer_blocks.{}.attn1.to_q.weight", prefix, k); });
}

Block block_at(const PartTensors& t, const std::string& prefix) {
  Block entry;
  const std::string conv = prefix + ".0.out_layers.3.weight";
  if (t.contains(conv)) entry.channels = size_of(t, conv, 0);
  entry.depth = depth_at(t, prefix + ".1");
  entry.resamples = t.contains(prefix + ".0.op.weight") || t.contains(prefix + ".1.conv.weight") ||
                    t.contains(prefix + ".2.conv.weight");
  return entry;
}

struct Level {
  int64_t channels = 0;
  Depths depths;  // per layer; 0: no transformer
};

/// The numbered entries from `first`, cut into levels. On the way down a resampler is an entry of its own, on the way up
/// it stands in the last one of its level.
std::vector<Level> levels_of(const PartTensors& t, const char* blocks, int64_t first) {
  std::vector<Level> levels(1);
  for (int64_t n = first;; ++n) {
    const Block entry = block_at(t, fmt::format("{}.{}", blocks, n));
    if (entry.channels == 0 && !entry.resamples) break;
    if (entry.channels > 0) {
      levels.back().channels = entry.channels;
      levels.back().depths.push_back(entry.depth);
    }
    if (entry.resamples) levels.emplace_back();
  }
  if (levels.back().depths.empty()) levels.pop_back();
  return levels;
}

bool attends(const Level& level) {
  return std::any_of(level.depths.begin(), level.depths.end(), [](int64_t depth) { return depth > 0; });
}

/// One number where all layers agree; 1 where there are none.
Depths shortened(Depths depths) {
  if (std::all_of(depths.begin(), depths.end(), [&](int64_t d) { return d == depths.front(); })) {
    depths = {std::max<int64_t>(depths.front(), 1)};
  }
  return depths;
}

void set_depths(models::UNetConfig& c, const std::vector<Level>& down, const std::vector<Level>& up, int64_t middle) {
  std::vector<Depths> reversed;
  bool mirrored = true;
  for (const Level& level : down) c.transformer_layers_per_block.push_back(shortened(level.depths));
  // A level without transformers on the way down has the number that the other places need.
  if (!attends(down.back()) && middle > 0) c.transformer_layers_per_block.back() = {middle};
  for (size_t i = 0; i < up.size(); ++i) {
    reversed.push_back(shortened(up[i].depths));
    const size_t level = up.size() - 1 - i;
    if (!attends(up[i])) continue;
    if (!attends(down[level])) c.transformer_layers_per_block[level] = reversed.back();
    mirrored = mirrored && c.transformer_layers_per_block[level] == reversed.back();
  }
  if (!mirrored) c.reverse_transformer_layers_per_block = reversed;
}

void set_levels(models::UNetConfig& c, const PartTensors& t) {
  const auto down = levels_of(t, "input_blocks", 1), up = levels_of(t, "output_blocks", 0);
  EMULSION_CHECK(!down.empty() && down.size() == up.size(), format,
                 "[{}] expected as many levels of input_blocks as of output_blocks, got {} and {}; the file is incomplete",
                 t.file().path().string(), down.size(), up.size());
  c.block_out_channels.clear(), c.layers_per_block.clear(), c.down_block_types.clear(), c.up_block_types.clear();
  c.transformer_layers_per_block.clear(), c.reverse_transformer_layers_per_block.clear();
  for (const Level& level : down) {
    c.block_out_channels.push_back(level.channels);
    c.layers_per_block.push_back(static_cast<int64_t>(level.depths.size()));
    c.down_block_types.push_back(attends(level) ? "CrossAttnDownBlock2D" : "DownBlock2D");
  }
  for (const Level& level : up) c.up_block_types.push_back(attends(level) ? "CrossAttnUpBlock2D" : "UpBlock2D");
  const int64_t middle = depth_at(t, "middle_block.1");
  c.mid_block_type = middle > 0                                          ? models::MidBlock::UNetMidBlock2DCrossAttn
                     : t.contains("middle_block.0.in_layers.0.weight") ? models::MidBlock::UNetMidBlock2D
                                                                         : models::MidBlock::none;
  set_depths(c, down, up, middle);
}

void set_attention(models::UNetConfig& c, const PartTensors& t) {
  for (const auto& [name, entry] : t.entries()) {
    if (name.ends_with(".attn2.to_k.weight")) c.cross_attention_dim = size_of(t, name, 1);
    if (name.ends_with(".1.proj_in.weight")) c.use_linear_projection = entry->shape.size() == 2;
  }
}

/// Heads of a new shape: as many per level as `like` has where the depth agrees, else 64 channels each.
void set_heads(models::UNetConfig& c, const models::UNetConfig& like) {
  c.only_cross_attention.assign(c.block_out_channels.size(), false);
  if (c.block_out_channels == like.block_out_channels) return;
  c.heads.clear();
  for (const int64_t width : c.block_out_channels) {
    const int64_t heads = c.use_linear_projection ? width / 64 : like.heads.front();
    c.heads.push_back(heads > 0 && width % heads == 0 ? heads : 1);
  }
}

// --- autoencoder ---------------------------------------------------------------------------------------

struct VaeNames {
  std::string down, middle_attention;  // fmt patterns
};

VaeNames vae_names(Naming naming) {
  if (naming == Naming::ldm) return {"encoder.down.{}.block.{}.conv1.weight", "encoder.mid.attn_1.norm.weight"};
  return {"encoder.down_blocks.{}.resnets.{}.conv1.weight", "encoder.mid_block.attentions.0.group_norm.weight"};
}

// --- text encoder --------------------------------------------------------------------------------------

struct ClipNames {
  std::string tokens, positions, layer, inner, projection;
};

ClipNames clip_names(Naming naming) {
  if (naming == Naming::open_clip) {
    return {"token_embedding.weight", "positional_embedding", "transformer.resblocks.{}.ln_1.weight",
            "transformer.resblocks.0.mlp.c_fc.weight", "text_projection"};
  }
  const std::string prefix = naming == Naming::prefixed_clip ? "text_model." : "";
  return {prefix + "embeddings.token_embedding.weight", prefix + "embeddings.position_embedding.weight",
          prefix + "encoder.layers.{}.layer_norm1.weight", prefix + "encoder.layers.0.mlp.fc1.weight",
          "text_projection.weight"};
}

}  // namespace

models::UNetConfig unet_config_from_shapes(const PartTensors& tensors, const models::UNetConfig& like) {
  models::UNetConfig c = like;
  c.in_channels = size_of(tensors, "input_blocks.0.0.weight", 1);
  c.out_channels = size_of(tensors, "out.2.weight", 0);
  set_levels(c, tensors);
  set_attention(c, tensors);
  set_heads(c, like);
  c.text_time_conditioning = tensors.contains("label_emb.0.0.weight");
  if (c.text_time_conditioning) {
    c.projection_class_embeddings_input_dim = size_of(tensors, "label_emb.0.0.weight", 1);
  }
  // Depths of levels without transformers are not in the shapes.
  models::UNetConfig same = c;
  same.transformer_layers_per_block = like.transformer_layers_per_block;
  const auto differs = [&](size_t i) { return c.down_block_types[i] != "DownBlock2D" &&
                                              c.transformer_layers_per_block[i] != like.transformer_layers_per_block[i]; };
  for (size_t i = 0; same == like && i < c.block_out_channels.size(); ++i) {
    if (differs(i)) return c;
  }
  return same == like ? like : c;
}

models::VaeConfig vae_config_from_shapes(const PartTensors& tensors, Naming naming, const models::VaeConfig& like) {
  models::VaeConfig c = like;
  const VaeNames names = vae_names(naming);
  const auto name = [&](int64_t i, int64_t j) { return fmt::format(fmt::runtime(names.down), i, j); };
  const int64_t levels = count(tensors, [&](int64_t i) { return name(i, 0); });
  c.block_out_channels.clear();
  for (int64_t i = 0; i < levels; ++i) c.block_out_channels.push_back(size_of(tensors, name(i, 0), 0));
  c.layers_per_block = count(tensors, [&](int64_t j) { return name(0, j); });
  c.in_channels = size_of(tensors, "encoder.conv_in.weight", 1);
  c.latent_channels = size_of(tensors, "decoder.conv_in.weight", 1);
  c.mid_block_add_attention = tensors.contains(names.middle_attention);
  c.use_quant_conv = tensors.contains("quant_conv.weight");
  c.use_post_quant_conv = tensors.contains("post_quant_conv.weight");
  return c;
}

models::ClipTextConfig clip_config_from_shapes(const PartTensors& tensors, Naming naming,
                                               const models::ClipTextConfig& like) {
  models::ClipTextConfig c = like;
  const ClipNames names = clip_names(naming);
  c.vocab_size = size_of(tensors, names.tokens, 0);
  c.hidden_size = size_of(tensors, names.tokens, 1);
  c.max_position_embeddings = size_of(tensors, names.positions, 0);
  c.intermediate_size = size_of(tensors, names.inner, 0);
  c.num_hidden_layers = count(tensors, [&](int64_t i) { return fmt::format(fmt::runtime(names.layer), i); });
  if (c.hidden_size == like.hidden_size) {
    c.num_hidden_layers = std::min(c.num_hidden_layers, like.num_hidden_layers);
  } else {
    c.num_attention_heads = std::max<int64_t>(c.hidden_size / 64, 1);
  }
  if (c.with_projection) c.projection_dim = size_of(tensors, names.projection, naming == Naming::open_clip ? 1 : 0);
  c.bos_token_id = c.vocab_size - 2;
  c.eos_token_id = c.vocab_size - 1;
  return c;
}

}  // namespace emulsion::weights
