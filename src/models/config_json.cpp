// config.json of diffusers and transformers <-> our config structs.
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

#include "core/error.h"
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
    json_ = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    EMULSION_CHECK(json_.is_object(), format, "[{}] expected a JSON object, got something else", file_);
  }

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

  /// A number, or a list with one number per level.
  void read_per_level(const char* key, std::vector<int64_t>& into, size_t levels) const {
    if (!has(key)) {
      EMULSION_CHECK(!into.empty(), internal, "default of {}", key);
      into.assign(levels, into.front());
      return;
    }
    if (json_[key].is_number_integer()) {
      into.assign(levels, json_[key].get<int64_t>());
      return;
    }
    read(key, into);
    EMULSION_CHECK(into.size() == levels, format, "[{}] '{}' has {} entries; expected one per level, {}",
                   file_, key, into.size(), levels);
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

}  // namespace

// --- U-Net -----------------------------------------------------------------------------------------

UNetConfig unet_config_from_json(const std::string& text, const std::string& file) {
  const Reader in(text, file);
  const std::pair<const char*, Json> neutral[] = {
      {"act_fn", "silu"}, {"class_embed_type", nullptr}, {"num_class_embeds", nullptr},
      {"encoder_hid_dim", nullptr}, {"encoder_hid_dim_type", nullptr}, {"time_cond_proj_dim", nullptr},
      {"dual_cross_attention", false}, {"mid_block_only_cross_attention", false},
      {"only_cross_attention", false}, {"resnet_time_scale_shift", "default"},
      {"resnet_skip_time_act", false}, {"resnet_out_scale_factor", 1.0}, {"time_embedding_type", "positional"},
      {"time_embedding_dim", nullptr}, {"time_embedding_act_fn", nullptr}, {"timestep_post_act", nullptr},
      {"conv_in_kernel", 3}, {"conv_out_kernel", 3}, {"cross_attention_norm", nullptr},
      {"attention_type", "default"}, {"dropout", 0.0}, {"mid_block_scale_factor", 1},
      {"center_input_sample", false}, {"reverse_transformer_layers_per_block", nullptr},
      {"mid_block_type", "UNetMidBlock2DCrossAttn"}};
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
  in.read_per_level("transformer_layers_per_block", c.transformer_layers_per_block, levels);
  if (in.has("cross_attention_dim")) {
    EMULSION_CHECK(in["cross_attention_dim"].is_number_integer(), unsupported,
                   "[{}] 'cross_attention_dim' is {}; only one number for all levels is built", file,
                   in["cross_attention_dim"].dump());
    in.read("cross_attention_dim", c.cross_attention_dim);
  }
  in.read("norm_eps", c.norm_eps);
  in.read("downsample_padding", c.downsample_padding);
  in.read("use_linear_projection", c.use_linear_projection);
  in.read("flip_sin_to_cos", c.flip_sin_to_cos);
  in.read("freq_shift", c.freq_shift);
  if (in.has("addition_embed_type")) {
    in.refuse_unless("addition_embed_type", "text_time");
    c.text_time_conditioning = true;
    in.read("addition_time_embed_dim", c.addition_time_embed_dim);
    in.read("projection_class_embeddings_input_dim", c.projection_class_embeddings_input_dim);
    check_positive(in, "projection_class_embeddings_input_dim", c.projection_class_embeddings_input_dim);
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
  }
  return c;
}

/// One number where all levels agree, as diffusers itself writes it: parts of it cannot read a list there.
Json per_level(const std::vector<int64_t>& values) {
  const bool same = std::all_of(values.begin(), values.end(), [&](int64_t v) { return v == values.front(); });
  return same ? Json(values.front()) : Json(values);
}

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
  if (c.text_time_conditioning) {
    j["addition_embed_type"] = "text_time";
    j["addition_time_embed_dim"] = c.addition_time_embed_dim;
    j["projection_class_embeddings_input_dim"] = c.projection_class_embeddings_input_dim;
  }
  return j.dump(2) + "\n";
}

// --- autoencoder -----------------------------------------------------------------------------------

VaeConfig vae_config_from_json(const std::string& text, const std::string& file) {
  const Reader in(text, file);
  VaeConfig c;
  in.read("block_out_channels", c.block_out_channels);
  in.read("norm_num_groups", c.norm_num_groups);
  check_widths(in, c.block_out_channels, c.norm_num_groups);
  in.refuse_unless("act_fn", "silu");
  in.refuse_unless("shift_factor", nullptr);
  in.refuse_unless("down_block_types", Json(std::vector<std::string>(c.block_out_channels.size(), "DownEncoderBlock2D")));
  in.refuse_unless("up_block_types", Json(std::vector<std::string>(c.block_out_channels.size(), "UpDecoderBlock2D")));
  in.read("sample_size", c.sample_size);
  in.read("in_channels", c.in_channels);
  in.refuse_unless("out_channels", c.in_channels);
  in.read("latent_channels", c.latent_channels);
  in.read("layers_per_block", c.layers_per_block);
  in.read("mid_block_add_attention", c.mid_block_add_attention);
  in.read("scaling_factor", c.scaling_factor);
  in.read("use_quant_conv", c.use_quant_conv);
  in.refuse_unless("use_post_quant_conv", c.use_quant_conv);
  check_positive(in, "latent_channels", c.latent_channels);
  check_positive(in, "layers_per_block", c.layers_per_block);
  return c;
}

std::string to_json(const VaeConfig& c) {
  const size_t levels = c.block_out_channels.size();
  const Json j = {{"_class_name", "AutoencoderKL"},
                  {"act_fn", "silu"},
                  {"block_out_channels", c.block_out_channels},
                  {"down_block_types", std::vector<std::string>(levels, "DownEncoderBlock2D")},
                  {"force_upcast", false},
                  {"in_channels", c.in_channels},
                  {"latent_channels", c.latent_channels},
                  {"layers_per_block", c.layers_per_block},
                  {"mid_block_add_attention", c.mid_block_add_attention},
                  {"norm_num_groups", c.norm_num_groups},
                  {"out_channels", c.in_channels},
                  {"sample_size", c.sample_size},
                  {"scaling_factor", c.scaling_factor},
                  {"up_block_types", std::vector<std::string>(levels, "UpDecoderBlock2D")},
                  {"use_post_quant_conv", c.use_quant_conv},
                  {"use_quant_conv", c.use_quant_conv}};
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
  const Json j = {{"architectures", {"CLIPTextModel"}},
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
