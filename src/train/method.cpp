#include "train/method.h"

#include "core/error.h"
#include "train/methods.h"

namespace emulsion::train {

Loss Method::replay(const DenoisingInputs&, const Tensor&) {
  throw Error(ErrorCode::unsupported, "[replay] only methods that train a denoiser take recorded inputs");
}

Tensor Method::validation_losses(const data::Batch&, const std::vector<std::vector<std::string>>&,
                                 const std::vector<double>&) const {
  throw Error(ErrorCode::unsupported, "[validation] this method has no loss without chance");
}

void Method::draw_class_pictures(const PriorConfig&, const std::filesystem::path&, Reporter&) {
  throw Error(ErrorCode::unsupported, "[priors] this method draws nothing, so that it has no class pictures");
}

std::unique_ptr<Method> make_method(const RunConfig& config) {
  if (std::holds_alternative<AutoencoderMethod>(config.method)) return make_autoencoder_method(config);
  if (std::holds_alternative<DiffusionMethod>(config.method)) return make_diffusion_method(config);
  if (std::holds_alternative<TextualInversionMethod>(config.method)) return make_textual_inversion_method(config);
  if (std::holds_alternative<HypernetworkMethod>(config.method)) return make_hypernetwork_method(config);
  return make_lora_method(config);
}

}  // namespace emulsion::train
