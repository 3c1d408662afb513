// config.json of diffusers and transformers <-> our config structs; the U-Net's is written in unet_config_write.cpp.
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_depth.h"
#include "core/json_numbers.h"
#include "models/clip_text.h"
#include "models/unet_config.h"
#include "models/vae.h"

namespace emulsion::models {
namespace {

using Json = nlohmann::ordered_json;

/// Reads one config.json; every complaint names the file and the key.
class Reader {
 public:
  Reader(const std::string& text, std::string file) : file_(std::move(file)) {
    check_json_depth(text, file_);
    json_ = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    EMULSION_CHECK(json_.is_object(), format, "[{}] expected a JSON object, got something else", file_);
  }

  bool contains(const char* key) const { return json_.contains(key); }
  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }

  template <class T>
  void read(const char* key, T& into) const {
    if (!has(key)) return;
    try {
      into = json_[key].get<T>();
    } catch (const Json::exception&) {
      throw Error(ErrorCode::format,
                  fmt::format("[{}] '{}' is {}; expected another type", file_, key, json_[key].dump()));
    }
  }

  void read(const char* key, int64_t& into) const {
    if (has(key)) into = whole_number(json_[key], file_, key);
  }

  void read(const char* key, std::vector<int64_t>& into) const {
    if (!has(key)) return;
    EMULSION_CHECK(json_[key].is_array(), format, "[{}] '{}' is {}; expected a list", file_, key, json_[key].dump());
    into = whole_numbers(json_[key], key);
  }

  /// A number, or a list with one number per level.
  void read_per_level(const char* key, std::vector<int64_t>& into, size_t levels) const {
    if (!has(key)) {
      EMULSION_CHECK(!into.empty(), internal, "default of {}", key);
      into.assign(levels, into.front());
      return;
    }
    if (!json_[key].is_array()) {
      into.assign(levels, whole_number(json_[key], file_, key));
      return;
    }
    read(key, into);
    expect_levels(key, into.size(), levels);
  }

  /// A flag, or a list with one per level.
  void read_flags(const char* key, std::vector<bool>& into, size_t levels) const {
    into.assign(levels, false);
    if (!has(key)) return;
    if (json_[key].is_boolean()) {
      into.assign(levels, json_[key].get<bool>());
      return;
    }
    read(key, into);
    expect_levels(key, into.size(), levels);
  }

  /// A number, or a list with, per level, a number or a list with one per layer.
  void read_depths(const char* key, std::vector<Depths>& into, size_t levels) const {
    if (has(key) && !json_[key].is_array()) {
      int64_t depth = 1;
      read(key, depth);
      into.assign(levels, {depth});
      return;
    }
    into.assign(levels, {1});
    if (!has(key)) return;
    expect_levels(key, json_[key].size(), levels);
    for (size_t i = 0; i < levels; ++i) {
      const Json& entry = json_[key][i];
      into[i] = entry.is_array() ? whole_numbers(entry, key) : Depths{whole_number(entry, file_, key)};
      EMULSION_CHECK(!into[i].empty(), format, "[{}] '{}' has an empty list", file_, key);
    }
  }

  void expect_levels(const char* key, size_t entries, size_t levels) const {
    EMULSION_CHECK(entries == levels, format, "[{}] '{}' has {} entries; expected one per level, {}", file_, key, entries,
                   levels);
  }

  /// Options that change the network and are not built: anything but `neutral` is refused by name.
  void refuse_unless(const char* key, const Json& neutral) const {
    if (!has(key) || json_[key] == neutral) return;
    throw Error(ErrorCode::unsupported, fmt::format("[{}] '{}' is {}; only {} is built", file_, key,
                                                    json_[key].dump(), neutral.dump()));
  }

  const Json& operator[](const char* key) const { return json_[key]; }
  const std::string& file() const { return file_; }

 private:
  std::vector<int64_t> whole_numbers(const Json& list, const char* key) const {
    std::vector<int64_t> numbers;
    for (const Json& entry : list) numbers.push_back(whole_number(entry, file_, key));
    return numbers;
  }

  Json json_;
  std::string file_;
};

void check_positive(const Reader& reader, const char* key, int64_t value) {
  EMULSION_CHECK(value > 0 && value < (int64_t{1} << 31), format, "[{}] '{}' is {}; expected a positive number",
                 reader.file(), key, value);
}

void check_widths(const Reader& reader, const std::vector<int64_t>& widths, int64_t groups) {
  EMULSION_CHECK(!widths.empty(), format, "[{}] 'block_out_channels' is empty", reader.file());
  check_positive(reader, "norm_num_groups", groups);
  for (const int64_t width : widths) {
    check_positive(reader, "block_out_channels", width);
    EMULSION_CHECK(width % groups == 0, format,
                   "[{}] 'block_out_channels' has {}, which 'norm_num_groups' = {} does not divide",
                   reader.file(), width, groups);
  }
}

/// null means no mid block; a file that leaves the key out has the usual one.
void read_mid_block(const Reader& in, MidBlock& into) {
  if (!in.contains("mid_block_type")) return;
  const Json& value = in["mid_block_type"];
  if (value.is_null()) {
    into = MidBlock::none;
  } else if (value == "UNetMidBlock2D") {
    into = MidBlock::UNetMidBlock2D;
  } else {
    in.refuse_unless("mid_block_type", "UNetMidBlock2DCrossAttn");
  }
}

}  // namespace

// --- U-Net -----------------------------------------------------------------------------------------

UNetConfig unet_config_from_json(const std::string& text, const std::string& file) {
  const Reader in(text, file);
  const std::pair<const char*, Json> neutral[] = {
      {"act_fn", "silu"}, {"class_embed_type", nullptr}, {"num_class_embeds", nullptr},
      {"class_embeddings_concat", false}, {"encoder_hid_dim", nullptr}, {"encoder_hid_dim_type", nullptr},
      {"dual_cross_attention", false}, {"resnet_skip_time_act", false}, {"resnet_out_scale_factor", 1.0},
      {"time_embedding_type", "positional"}, {"time_embedding_act_fn", nullptr}, {"timestep_post_act", nullptr},
      {"cross_attention_norm", nullptr}, {"attention_type", "default"}, {"dropout", 0.0}};
  for (const auto& [key, value] : neutral) in.refuse_unless(key, value);

  UNetConfig c;
  in.read("block_out_channels", c.block_out_channels);
  in.read("norm_num_groups", c.norm_num_groups);
  check_widths(in, c.block_out_channels, c.norm_num_groups);
  const size_t levels = c.block_out_channels.size();
  in.read("sample_size", c.sample_size);
  in.read("in_channels", c.in_channels);
  in.read("out_channels", c.out_channels);
  in.read("down_block_types", c.down_block_types);
  in.read("up_block_types", c.up_block_types);
  in.read_per_level("layers_per_block", c.layers_per_block, levels);
  // diffusers' name is historical: the numbers are counts of heads unless num_attention_heads is given.
  in.read_per_level(in.has("num_attention_heads") ? "num_attention_heads" : "attention_head_dim", c.heads, levels);
  in.read_depths("transformer_layers_per_block", c.transformer_layers_per_block, levels);
  if (in.has("reverse_transformer_layers_per_block")) {
    in.read_depths("reverse_transformer_layers_per_block", c.reverse_transformer_layers_per_block, levels);
  }
  in.read_flags("only_cross_attention", c.only_cross_attention, levels);
  read_mid_block(in, c.mid_block_type);
  if (in.has("cross_attention_dim")) {
    EMULSION_CHECK(in["cross_attention_dim"].is_number_integer(), unsupported,
                   "[{}] 'cross_attention_dim' is {}; only one number for all levels is built", file,
                   in["cross_attention_dim"].dump());
    in.read("cross_attention_dim", c.cross_attention_dim);
  }
  in.read("norm_eps", c.norm_eps);
  in.read("downsample_padding", c.downsample_padding);
  in.read("mid_block_scale_factor", c.mid_block_scale_factor);
  in.read("conv_in_kernel", c.conv_in_kernel);
  in.read("conv_out_kernel", c.conv_out_kernel);
  in.read("time_embedding_dim", c.time_embedding_dim);
  in.read("time_cond_proj_dim", c.time_cond_proj_dim);
  in.read("center_input_sample", c.center_input_sample);
  in.read("upcast_attention", c.upcast_attention);
  in.read("use_linear_projection", c.use_linear_projection);
  std::string time_scale_shift = "default";
  in.read("resnet_time_scale_shift", time_scale_shift);
  EMULSION_CHECK(time_scale_shift == "default" || time_scale_shift == "scale_shift", unsupported,
                 "[{}] 'resnet_time_scale_shift' is \"{}\"; only \"default\" and \"scale_shift\" are built", file,
                 time_scale_shift);
  c.scale_shift = time_scale_shift == "scale_shift";
  in.read("flip_sin_to_cos", c.flip_sin_to_cos);
  in.read("freq_shift", c.freq_shift);
  if (in.has("addition_embed_type")) {
    in.refuse_unless("addition_embed_type", "text_time");
    c.text_time_conditioning = true;
    in.read("addition_time_embed_dim", c.addition_time_embed_dim);
    in.read("projection_class_embeddings_input_dim", c.projection_class_embeddings_input_dim);
    check_positive(in, "projection_class_embeddings_input_dim", c.pooled_dim());
  }

  EMULSION_CHECK(c.down_block_types.size() == levels && c.up_block_types.size() == levels, format,
                 "[{}] {} down and {} up block types for {} levels", file, c.down_block_types.size(),
                 c.up_block_types.size(), levels);
  for (size_t i = 0; i < levels; ++i) {
    const auto known = [&](const std::string& type, const char* plain, const char* cross) {
      EMULSION_CHECK(type == plain || type == cross, unsupported,
                     "[{}] block type '{}'; only {} and {} are built", file, type, plain, cross);
    };
    known(c.down_block_types[i], "DownBlock2D", "CrossAttnDownBlock2D");
    known(c.up_block_types[i], "UpBlock2D", "CrossAttnUpBlock2D");
    check_positive(in, "attention_head_dim", c.heads[i]);
    check_positive(in, "layers_per_block", c.layers_per_block[i]);
    EMULSION_CHECK(c.block_out_channels[i] % c.heads[i] == 0, format,
                   "[{}] {} channels do not divide into {} attention heads", file, c.block_out_channels[i],
                   c.heads[i]);
    const auto check_depths = [&](const char* key, const Depths& depths, int64_t layers) {
      EMULSION_CHECK(depths.size() == 1 || static_cast<int64_t>(depths.size()) == layers, format,
                     "[{}] '{}' has {} numbers for a block of {} transformers", file, key, depths.size(), layers);
    };
    if (c.down_block_types[i] == "CrossAttnDownBlock2D") {
      check_depths("transformer_layers_per_block", c.transformer_layers_per_block[i], c.layers_per_block[i]);
    }
    const size_t up = levels - 1 - i;  // the up block at this level
    if (c.up_block_types[up] != "CrossAttnUpBlock2D") continue;
    if (!c.reverse_transformer_layers_per_block.empty()) {
      check_depths("reverse_transformer_layers_per_block", c.reverse_transformer_layers_per_block[up],
                   c.layers_per_block[i] + 1);
    } else {
      EMULSION_CHECK(c.transformer_layers_per_block[i].size() == 1, format,
                     "[{}] 'transformer_layers_per_block' has a list for level {}; then expected "
                     "'reverse_transformer_layers_per_block' for the up blocks too",
                     file, i);
    }
  }
  return c;
}

// --- autoencoder -----------------------------------------------------------------------------------

VaeConfig vae_config_from_json(const std::string& text, const std::string& file) {
  const Reader in(text, file);
  VaeConfig c;
  in.read("block_out_channels", c.block_out_channels);
  in.read("norm_num_groups", c.norm_num_groups);
  check_widths(in, c.block_out_channels, c.norm_num_groups);
  in.refuse_unless("act_fn", "silu");
  in.refuse_unless("down_block_types", Json(std::vector<std::string>(c.block_out_channels.size(), "DownEncoderBlock2D")));
  in.refuse_unless("up_block_types", Json(std::vector<std::string>(c.block_out_channels.size(), "UpDecoderBlock2D")));
  in.read("sample_size", c.sample_size);
  in.read("in_channels", c.in_channels);
  in.refuse_unless("out_channels", c.in_channels);
  in.read("latent_channels", c.latent_channels);
  in.read("layers_per_block", c.layers_per_block);
  in.read("mid_block_add_attention", c.mid_block_add_attention);
  in.read("scaling_factor", c.scaling_factor);
  in.read("shift_factor", c.shift_factor);
  in.read("latents_mean", c.latents_mean);
  in.read("latents_std", c.latents_std);
  in.read("force_upcast", c.force_upcast);
  in.read("use_quant_conv", c.use_quant_conv);
  in.read("use_post_quant_conv", c.use_post_quant_conv);
  for (const auto* list : {&c.latents_mean, &c.latents_std}) {
    EMULSION_CHECK(list->empty() || static_cast<int64_t>(list->size()) == c.latent_channels, format,
                   "[{}] '{}' has {} numbers for {} latent channels", file,
                   list == &c.latents_mean ? "latents_mean" : "latents_std", list->size(), c.latent_channels);
  }
  EMULSION_CHECK(c.scaling_factor != 0, format, "[{}] 'scaling_factor' is 0", file);
  check_positive(in, "latent_channels", c.latent_channels);
  check_positive(in, "layers_per_block", c.layers_per_block);
  return c;
}

std::string to_json(const VaeConfig& c) {
  const size_t levels = c.block_out_channels.size();
  Json j = {{"_class_name", "AutoencoderKL"},
                  {"act_fn", "silu"},
                  {"block_out_channels", c.block_out_channels},
                  {"down_block_types", std::vector<std::string>(levels, "DownEncoderBlock2D")},
                  {"force_upcast", c.force_upcast},
                  {"in_channels", c.in_channels},
                  {"latent_channels", c.latent_channels},
                  {"layers_per_block", c.layers_per_block},
                  {"mid_block_add_attention", c.mid_block_add_attention},
                  {"norm_num_groups", c.norm_num_groups},
                  {"out_channels", c.in_channels},
                  {"sample_size", c.sample_size},
                  {"scaling_factor", c.scaling_factor},
                  {"up_block_types", std::vector<std::string>(levels, "UpDecoderBlock2D")},
                  {"use_post_quant_conv", c.use_post_quant_conv},
                  {"use_quant_conv", c.use_quant_conv}};
  if (c.shift_factor != 0) j["shift_factor"] = c.shift_factor;
  if (!c.latents_mean.empty()) j["latents_mean"] = c.latents_mean;
  if (!c.latents_std.empty()) j["latents_std"] = c.latents_std;
  return j.dump(2) + "\n";
}

// --- text encoder ----------------------------------------------------------------------------------

ClipTextConfig clip_text_config_from_json(const std::string& text, const std::string& file) {
  const Reader in(text, file);
  ClipTextConfig c;
  c.hidden_size = 512, c.intermediate_size = 2048, c.num_attention_heads = 8, c.projection_dim = 512;
  in.read("vocab_size", c.vocab_size);
  in.read("hidden_size", c.hidden_size);
  in.read("intermediate_size", c.intermediate_size);
  in.read("num_hidden_layers", c.num_hidden_layers);
  in.read("num_attention_heads", c.num_attention_heads);
  in.read("max_position_embeddings", c.max_position_embeddings);
  in.read("projection_dim", c.projection_dim);
  in.read("layer_norm_eps", c.layer_norm_eps);
  in.read("bos_token_id", c.bos_token_id);
  in.read("eos_token_id", c.eos_token_id);
  in.refuse_unless("attention_dropout", 0.0);
  in.refuse_unless("text_config", nullptr);
  std::vector<std::string> architectures;
  in.read("architectures", architectures);
  c.with_projection = architectures == std::vector<std::string>{"CLIPTextModelWithProjection"};
  std::string activation = "quick_gelu";
  in.read("hidden_act", activation);
  EMULSION_CHECK(activation == "quick_gelu" || activation == "gelu", unsupported,
                 "[{}] 'hidden_act' is \"{}\"; only \"quick_gelu\" and \"gelu\" are built", file, activation);
  c.hidden_act = activation == "gelu" ? Activation::gelu : Activation::quick_gelu;
  check_positive(in, "num_attention_heads", c.num_attention_heads);
  check_positive(in, "vocab_size", c.vocab_size);
  EMULSION_CHECK(c.hidden_size > 0 && c.hidden_size % c.num_attention_heads == 0, format,
                 "[{}] 'hidden_size' {} does not divide into {} heads", file, c.hidden_size,
                 c.num_attention_heads);
  return c;
}

std::string to_json(const ClipTextConfig& c) {
  const Json j = {{"architectures", {c.with_projection ? "CLIPTextModelWithProjection" : "CLIPTextModel"}},
                  {"attention_dropout", 0.0},
                  {"bos_token_id", c.bos_token_id},
                  {"eos_token_id", c.eos_token_id},
                  {"hidden_act", c.hidden_act == Activation::gelu ? "gelu" : "quick_gelu"},
                  {"hidden_size", c.hidden_size},
                  {"initializer_factor", 1.0},
                  {"initializer_range", 0.02},
                  {"intermediate_size", c.intermediate_size},
                  {"layer_norm_eps", c.layer_norm_eps},
                  {"max_position_embeddings", c.max_position_embeddings},
                  {"model_type", "clip_text_model"},
                  {"num_attention_heads", c.num_attention_heads},
                  {"num_hidden_layers", c.num_hidden_layers},
                  {"pad_token_id", c.eos_token_id},
                  {"projection_dim", c.projection_dim},
                  {"torch_dtype", "float32"},
                  {"vocab_size", c.vocab_size}};
  return j.dump(2) + "\n";
}

}  // namespace emulsion::models
