#include "weights/family_of_model.h"

namespace emulsion::weights {

const models::Family& nearest_family(const models::Model& model) {
  const bool v = model.scheduler.prediction == diffusion::Prediction::v_prediction;
  const auto* unet = model.unet ? &model.unet->net.config() : nullptr;
  const bool inpaints = unet && unet->in_channels == 9;
  if (model.text_encoder_2 || (unet && unet->text_time_conditioning)) return models::find_family("sdxl");
  const bool open_clip = model.text_encoder ? model.text_encoder->net.config().hidden_act == models::Activation::gelu
                                            : unet && unet->cross_attention_dim == 1024;
  if (open_clip) return models::find_family(inpaints ? "sd2_inpaint" : v ? "sd2_v" : "sd2");
  return models::find_family(inpaints ? "sd1_inpaint" : "sd1");
}

std::string modelspec_architecture(const models::Model& model) {
  const std::string& id = nearest_family(model).id;
  const bool inpaints = model.unet && model.unet->net.config().in_channels == 9;
  const std::string name = id == "sdxl"          ? "stable-diffusion-xl-v1-base"
                           : id == "sd2_v"       ? "stable-diffusion-v2-768-v"
                           : id.starts_with("sd2") ? "stable-diffusion-v2-512"
                                                   : "stable-diffusion-v1";
  return name + (inpaints ? "-inpainting" : "");
}

diffusion::SchedulerConfig usual_scheduler(const models::Family& family) {
  diffusion::SchedulerConfig scheduler;
  if (family.text_encoder_2) scheduler.class_name = "EulerDiscreteScheduler";
  scheduler.prediction = family.prediction;
  return scheduler;
}

}  // namespace emulsion::weights
