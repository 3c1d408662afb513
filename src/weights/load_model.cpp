#include "weights/load_model.h"

#include "core/error.h"
#include "weights/catalogue.h"
#include "weights/family_of_model.h"
#include "weights/model_folder.h"
#include "weights/single_file.h"

namespace emulsion::weights {
namespace {

namespace fs = std::filesystem;
using models::Model;

Model load_unchecked(const fs::path& model, const LoadOptions& options) {
  const fs::path path = located(model);
  return fs::is_directory(path) ? load_model_folder(path, options) : load_single_file(path, options);
}

/// Width of the text states that the encoders give together; 0 without any.
int64_t text_width(const Model& model) {
  return (model.text_encoder ? model.text_encoder->net.config().hidden_size : 0) +
         (model.text_encoder_2 ? model.text_encoder_2->net.config().hidden_size : 0);
}

/// The published autoencoders of SD 1, 2 and of SDXL have the same shapes and different latents: only the scaling factor
/// tells them apart.
void check_scaling(const Model& model, const std::string& where) {
  const models::Family& family = nearest_family(model);
  if (model.unet->net.config().block_out_channels != family.unet.block_out_channels) return;
  const double factor = model.vae->net.config().scaling_factor;
  for (const models::Family& other : models::families()) {
    EMULSION_CHECK(factor == family.vae.scaling_factor || factor != other.vae.scaling_factor, format,
                   "[{}] expected an autoencoder of {} (scaling_factor {}), got one of {} (scaling_factor {}); its latents "
                   "are others: give the autoencoder of the same family",
                   where, family.name, family.vae.scaling_factor, other.name, factor);
  }
}

void check_fit(const Model& model, const std::string& where) {
  if (!model.unet) return;
  const models::UNetConfig& unet = model.unet->net.config();
  if (model.vae) {
    const models::VaeConfig& vae = model.vae->net.config();
    EMULSION_CHECK(vae.latent_channels == unet.out_channels, format,
                   "[{}] expected an autoencoder of {} latent channels, as the U-Net gives, got one of {}; the parts are of "
                   "different models",
                   where, unet.out_channels, vae.latent_channels);
    check_scaling(model, where);
  }
  const bool all_encoders = model.text_encoder && (model.text_encoder_2 || !unet.text_time_conditioning);
  EMULSION_CHECK(!all_encoders || text_width(model) == unet.cross_attention_dim, format,
                 "[{}] expected text encoders of {} channels together, as the U-Net reads, got {}; the parts are of "
                 "different models",
                 where, unet.cross_attention_dim, text_width(model));
}

}  // namespace

Model load_model(const fs::path& path, const LoadOptions& options) {
  Model model = load_unchecked(path, options);
  check_fit(model, path.string());
  return model;
}

void replace_vae(Model& model, const fs::path& path, at::ScalarType dtype) {
  LoadOptions options = {.dtype = dtype, .parts = {"vae"}};
  const models::VaeConfig usual = nearest_family(model).vae;
  options.vae_like = model.vae ? &model.vae->net.config() : &usual;
  Model other = load_unchecked(path, options);
  other.need_vae("replacing an autoencoder");
  model.vae = std::move(other.vae);
  check_fit(model, path.string());
}

}  // namespace emulsion::weights
