#include "models/family.h"

#include <algorithm>

#include "core/error.h"

namespace emulsion::models {
namespace {

constexpr int64_t kTinyMerges = 98;  // 512 + 98 + begin and end = 612 tokens

// --- rows ------------------------------------------------------------------------------------------

const std::vector<std::string> kDown = {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                                        "DownBlock2D"};
const std::vector<std::string> kUp = {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"};

ClipTextConfig clip_l() { return {}; }

ClipTextConfig open_clip_h() {
  // 24 layers were trained; SD 2 reads the state before the last one, so 23 are kept, with the final norm.
  return {.hidden_size = 1024, .intermediate_size = 4096, .num_hidden_layers = 23, .num_attention_heads = 16,
          .projection_dim = 512, .hidden_act = Activation::gelu};
}

ClipTextConfig open_clip_big_g() {
  return {.hidden_size = 1280, .intermediate_size = 5120, .num_hidden_layers = 32, .num_attention_heads = 20,
          .projection_dim = 1280, .with_projection = true, .hidden_act = Activation::gelu};
}

UNetConfig sd1_unet(int64_t in_channels) {
  UNetConfig c;
  c.in_channels = in_channels;
  return c;
}

UNetConfig sd2_unet(int64_t in_channels, int64_t sample_size, bool upcast_attention) {
  UNetConfig c;
  c.sample_size = sample_size;
  c.in_channels = in_channels;
  c.heads = {5, 10, 20, 20};
  c.cross_attention_dim = 1024;
  c.use_linear_projection = true;
  c.upcast_attention = upcast_attention;
  return c;
}

UNetConfig sdxl_unet() {
  UNetConfig c;
  c.sample_size = 128;
  c.block_out_channels = {320, 640, 1280};
  c.down_block_types = {"DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"};
  c.up_block_types = {"CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"};
  c.layers_per_block = {2, 2, 2};
  c.heads = {5, 10, 20};
  c.transformer_layers_per_block = {{1}, {2}, {10}};
  c.only_cross_attention = {false, false, false};
  c.cross_attention_dim = 2048;
  c.use_linear_projection = true;
  c.text_time_conditioning = true;
  c.addition_time_embed_dim = 256;
  c.projection_class_embeddings_input_dim = 1280 + 6 * 256;
  return c;
}

VaeConfig sd_vae(int64_t sample_size) {
  VaeConfig c;
  c.sample_size = sample_size;
  return c;
}

VaeConfig sdxl_vae() {
  VaeConfig c;
  c.sample_size = 1024;
  c.scaling_factor = 0.13025;
  c.force_upcast = true;
  return c;
}

constexpr auto kEpsilon = diffusion::Prediction::epsilon;
constexpr auto kV = diffusion::Prediction::v_prediction;
constexpr const char* kPlain = "StableDiffusionPipeline";
constexpr const char* kInpaint = "StableDiffusionInpaintPipeline";

// --- tiny twins --------------------------------------------------------------------------------------

/// Widths of a few channels; everything that is wiring stays.
UNetConfig tiny_unet(UNetConfig c, int64_t context_width, int64_t pooled_width) {
  const std::vector<int64_t> widths = {8, 16, 24, 24};
  c.sample_size = 32;
  c.block_out_channels.assign(widths.begin(), widths.begin() + static_cast<int64_t>(c.block_out_channels.size()));
  c.norm_num_groups = 4;
  for (size_t i = 0; i < c.heads.size(); ++i) c.heads[i] = i == 0 ? 1 : 2;
  for (Depths& depths : c.transformer_layers_per_block) depths.front() = std::min<int64_t>(depths.front(), 2);
  c.cross_attention_dim = context_width;
  if (c.text_time_conditioning) {
    c.addition_time_embed_dim = 8;
    c.projection_class_embeddings_input_dim = pooled_width + 6 * 8;
  }
  return c;
}

VaeConfig tiny_vae(VaeConfig c) {
  c.sample_size = 64;
  c.block_out_channels = {8, 12};
  c.layers_per_block = 1;
  c.norm_num_groups = 4;
  return c;
}

ClipTextConfig tiny_text(ClipTextConfig c, int64_t width) {
  c.vocab_size = 512 + kTinyMerges + 2;
  c.bos_token_id = c.vocab_size - 2;
  c.eos_token_id = c.vocab_size - 1;
  c.hidden_size = width;
  c.intermediate_size = 2 * width;
  c.num_hidden_layers = 3;
  c.num_attention_heads = 2;
  c.projection_dim = width;
  return c;
}

// --- models --------------------------------------------------------------------------------------------

ClipTokenizer tokenizer_for(const ClipTextConfig& config) {
  return ClipTokenizer::truncated(config.vocab_size - 514);
}

template <class Make>
Model assemble(const Family& family, const Make& make) {
  Model model;
  model.tokenizer = tokenizer_for(family.text_encoder);
  if (family.text_encoder_2) model.tokenizer_2 = tokenizer_for(*family.text_encoder_2).padded_with(0);  // "!"
  model.scheduler.prediction = family.prediction;
  model.zeros_for_empty_prompt = family.zeros_for_empty_prompt;
  make(model);
  return model;
}

}  // namespace

const std::vector<Family>& families() {
  static const std::vector<Family> rows = {
      {"sd1", "Stable Diffusion 1.x", kPlain, sd1_unet(4), sd_vae(512), clip_l(), {}, kEpsilon, 512, false},
      {"sd1_inpaint", "Stable Diffusion 1.x inpainting", kInpaint, sd1_unet(9), sd_vae(512), clip_l(), {}, kEpsilon, 512,
       false},
      {"sd2", "Stable Diffusion 2.x base", kPlain, sd2_unet(4, 64, false), sd_vae(768), open_clip_h(), {}, kEpsilon, 512,
       false},
      {"sd2_v", "Stable Diffusion 2.x, 768 px, v-prediction", kPlain, sd2_unet(4, 96, true), sd_vae(768), open_clip_h(), {},
       kV, 768, false},
      {"sd2_inpaint", "Stable Diffusion 2.x inpainting", kInpaint, sd2_unet(9, 64, false), sd_vae(512), open_clip_h(), {},
       kEpsilon, 512, false},
      {"sdxl", "Stable Diffusion XL base", "StableDiffusionXLPipeline", sdxl_unet(), sdxl_vae(), clip_l(), open_clip_big_g(),
       kEpsilon, 1024, true},
  };
  return rows;
}

const std::vector<UnbuiltFamily>& unbuilt_families() {
  static const std::vector<UnbuiltFamily> rows = {{"sdxl_refiner", "Stable Diffusion XL refiner"},
                                                  {"sd2_depth", "Stable Diffusion 2 depth"},
                                                  {"sd3", "Stable Diffusion 3"},
                                                  {"flux", "Flux"}};
  return rows;
}

const Family& find_family(std::string_view id) {
  std::vector<std::string> ids;
  for (const Family& family : families()) {
    if (family.id == id) return family;
    ids.push_back(family.id);
  }
  for (const UnbuiltFamily& family : unbuilt_families()) {
    if (family.id == id) refuse_family(id, "family");
  }
  throw Error(ErrorCode::not_found, fmt::format("[family] no family '{}'; there are: {}", id, fmt::join(ids, ", ")));
}

void refuse_family(std::string_view id, const std::string& where) {
  for (const UnbuiltFamily& family : unbuilt_families()) {
    if (family.id == id) {
      throw Error(ErrorCode::unsupported,
                  fmt::format("[{}] this is {}, which is not built; Stable Diffusion 1.x, 2.x and XL base are", where,
                              family.name));
    }
  }
  throw Error(ErrorCode::internal, fmt::format("[family] '{}' is no family that is refused", id));
}

Family tiny(const Family& family) {
  Family small = family;
  const int64_t width = 16, width_2 = 24;
  const int64_t context = width + (family.text_encoder_2 ? width_2 : 0);
  small.size = 64;
  small.unet = tiny_unet(family.unet, context, width_2);
  small.vae = tiny_vae(family.vae);
  small.text_encoder = tiny_text(family.text_encoder, width);
  if (family.text_encoder_2) small.text_encoder_2 = tiny_text(*family.text_encoder_2, width_2);
  return small;
}

Model declare(const Family& family) {
  return assemble(family, [&](Model& model) {
    model.vae = std::make_unique<Part<Vae>>(family.vae);
    model.unet = std::make_unique<Part<UNet>>(family.unet);
    model.text_encoder = std::make_unique<Part<ClipText>>(family.text_encoder);
    if (family.text_encoder_2) model.text_encoder_2 = std::make_unique<Part<ClipText>>(*family.text_encoder_2);
  });
}

Model new_model(const Family& family, const Rng& rng) {
  return assemble(family, [&](Model& model) {
    model.vae = new_vae(family.vae, rng);
    model.unet = new_unet(family.unet, rng);
    model.text_encoder = new_text_encoder(family.text_encoder, rng);
    if (family.text_encoder_2) model.text_encoder_2 = new_text_encoder(*family.text_encoder_2, rng, "text_encoder_2");
  });
}

}  // namespace emulsion::models
