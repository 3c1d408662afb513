#include "weights/part_places.h"

#include "core/error.h"

namespace emulsion::weights {
namespace {

struct Place {
  const char* part;
  const char* prefix;
  const char* sign;  // a tensor that only this naming has
  Naming naming;
};

// For each part the first row that fits counts.
constexpr Place kPlaces[] = {
    {"unet", "model.diffusion_model.", "input_blocks.0.0.weight", Naming::ldm},
    {"unet", "", "input_blocks.0.0.weight", Naming::ldm},
    {"unet", "", "down_blocks.0.resnets.0.conv1.weight", Naming::diffusers},
    {"vae", "first_stage_model.", "encoder.mid.block_1.norm1.weight", Naming::ldm},
    {"vae", "vae.", "encoder.mid.block_1.norm1.weight", Naming::ldm},
    {"vae", "", "encoder.mid.block_1.norm1.weight", Naming::ldm},
    {"vae", "", "encoder.mid_block.attentions.0.query.weight", Naming::old_diffusers},
    {"vae", "", "encoder.mid_block.resnets.0.norm1.weight", Naming::diffusers},
    {"text_encoder", "cond_stage_model.transformer.", "text_model.embeddings.token_embedding.weight",
     Naming::prefixed_clip},
    {"text_encoder", "cond_stage_model.transformer.", "embeddings.token_embedding.weight", Naming::bare_clip},
    {"text_encoder", "cond_stage_model.model.", "token_embedding.weight", Naming::open_clip},
    {"text_encoder", "conditioner.embedders.0.transformer.", "text_model.embeddings.token_embedding.weight",
     Naming::prefixed_clip},
    {"text_encoder", "conditioner.embedders.0.transformer.", "embeddings.token_embedding.weight", Naming::bare_clip},
    {"text_encoder_2", "conditioner.embedders.1.model.", "token_embedding.weight", Naming::open_clip},
    {"text_encoder", "", "text_model.embeddings.token_embedding.weight", Naming::prefixed_clip},
    {"text_encoder", "", "embeddings.token_embedding.weight", Naming::bare_clip},
};

[[noreturn]] void refuse_naming(const char* part) {
  throw Error(ErrorCode::internal, fmt::format("[weights] a naming that no {} has", part));
}

}  // namespace

std::optional<FoundPart> find_part(const io::TensorFile& file, const std::string& wrapper, const std::string& part) {
  for (const Place& place : kPlaces) {
    const std::string prefix = wrapper + place.prefix;
    if (part != place.part || !file.contains(prefix + place.sign)) continue;
    return FoundPart{part, prefix, place.naming, PartTensors(file, prefix)};
  }
  return std::nullopt;
}

std::optional<FoundPart> find_lone_part(const io::TensorFile& file, const std::string& part) {
  const std::string kind = part == "text_encoder_2" ? "text_encoder" : part;
  for (const Place& place : kPlaces) {
    if (kind != place.part || *place.prefix != '\0' || !file.contains(place.sign)) continue;
    return FoundPart{part, "", place.naming, PartTensors(file, "")};
  }
  return std::nullopt;
}

NameRules rules_of(Naming naming, const models::UNetConfig& config) {
  if (naming == Naming::ldm) return ldm_names(config);
  if (naming == Naming::diffusers) return diffusers_names(config);
  refuse_naming("U-Net");
}

NameRules rules_of(Naming naming, const models::VaeConfig& config) {
  if (naming == Naming::ldm) return ldm_names(config);
  if (naming == Naming::diffusers) return diffusers_names(config);
  if (naming == Naming::old_diffusers) return old_diffusers_names(config);
  refuse_naming("autoencoder");
}

NameRules rules_of(Naming naming, const models::ClipTextConfig& config, bool transpose_projection) {
  if (naming == Naming::open_clip) return open_clip_names(config, transpose_projection);
  if (naming == Naming::prefixed_clip) return prefixed_clip_names(config);
  if (naming == Naming::bare_clip) return bare_clip_names(config);
  refuse_naming("text encoder");
}

const std::vector<std::string>& ignorable_in(const std::string& part) {
  static const std::vector<std::string> unet = {};
  // Losses and averages of the autoencoder's own training.
  static const std::vector<std::string> vae = {"loss.*", "model_ema.*"};
  // Constants; and the temperature of CLIP's own training, which compares texts with pictures.
  static const std::vector<std::string> text = {"*position_ids", "attn_mask", "logit_scale"};
  return part == "unet" ? unet : part == "vae" ? vae : text;
}

const std::vector<std::string>& ignorable_outside_parts() {
  static const std::vector<std::string> names = {
      // Buffers of the noise schedule, as latent-diffusion registers them.
      "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
      "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
      "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2", "lvlb_weights", "logvar",
      "scale_factor", "denoiser.sigmas",
      // Averages; training state; flags, which are read and not loaded.
      "model_ema.*", "optimizer_states.*", "lr_schedulers.*", "callbacks.*", "loops.*", "v_pred", "ztsnr",
      // The unused projection of the first text encoder; textual inversion inside old checkpoints.
      "cond_stage_model.transformer.text_projection.weight", "cond_stage_model.logit_scale", "embedding_manager.*"};
  return names;
}

}  // namespace emulsion::weights
