// The methods, one file each, and what those that denoise share.
#pragma once

#include <functional>
#include <memory>

#include "adapters/adapter_set.h"
#include "data/cache.h"
#include "generate/text_states.h"
#include "models/model.h"
#include "train/config.h"
#include "train/method.h"
#include "train/text_cache.h"

namespace emulsion::train {

std::unique_ptr<Method> make_autoencoder_method(const RunConfig& config);
std::unique_ptr<Method> make_diffusion_method(const RunConfig& config);
std::unique_ptr<Method> make_lora_method(const RunConfig& config);
std::unique_ptr<Method> make_textual_inversion_method(const RunConfig& config);
std::unique_ptr<Method> make_hypernetwork_method(const RunConfig& config);
/// On a model that is in memory already.
std::unique_ptr<Method> make_diffusion_method(const RunConfig& config, models::Model model);
std::unique_ptr<Method> make_lora_method(const RunConfig& config, models::Model model);
std::unique_ptr<Method> make_textual_inversion_method(const RunConfig& config, models::Model model);
std::unique_ptr<Method> make_hypernetwork_method(const RunConfig& config, models::Model model);

/// The model at config.model.path, with the autoencoder at config.model.vae if one is given. `dtype`: float32 for weights that train;
/// it comes as float32 all the same where others are to be merged into it.
models::Model loaded_model(const RunConfig& config, at::ScalarType dtype = at::kFloat);

at::ScalarType dtype_of(ComputeDtype dtype);

/// The trainables of whole parts. `prefix` is what their file puts before every name; `rule` says at which rate and when a weight
/// trains, by its path: with a rate of 0 it is left out.
void add_trainables(
    nn::ParamStore& store, const std::string& prefix, std::vector<Trainable>& into,
    const std::function<WeightRule(const std::string& path)>& rule = [](const std::string&) { return WeightRule{.lr = 1}; });

/// Methods that train a denoiser: latents from pictures or from the cache, text states, previews by drawing.
class DenoiserMethod : public Method {
 public:
  DenoiserMethod(const RunConfig& config, models::Model model);

  void prepare(const data::BatchSource& source, const std::filesystem::path& cache, Reporter& reporter) override;
  bool needs_pixels() const override { return !latent_cache_; }
  int64_t weight_count() const override;
  Loss loss(const data::Batch& batch, const StepAddress& address) override;
  Tensor validation_losses(const data::Batch& batch, const std::vector<std::vector<std::string>>& readings,
                           const std::vector<double>& whens) const override;
  Loss replay(const DenoisingInputs& inputs, const Tensor& input_ids) override;
  Tensor preview(const data::BatchSource& source, Reporter& reporter) override;

  void draw_class_pictures(const PriorConfig& prior, const std::filesystem::path& folder, Reporter& reporter) override;

  models::Model& model() { return model_; }

 protected:
  /// Whether what the text encoders say changes during the run, so that their states cannot be kept.
  virtual bool text_encoder_changes() const = 0;
  /// Words with vectors of their own, for each encoder.
  virtual std::vector<std::vector<models::NamedTokens>> learned_words() const { return {}; }

  RunConfig config_;
  models::Model model_;
  Rng rng_;

 private:
  void cache_latents(const data::BatchSource& source, const std::filesystem::path& cache, Reporter& reporter);
  void cache_texts(const data::BatchSource& source, const std::filesystem::path& folder, Reporter& reporter);
  Tensor moments(const data::Batch& batch);
  void draw_noise(const std::vector<int64_t>& draws, DenoisingInputs& in) const;
  generate::TextOptions text_options() const;  // how captions are read
  void ask_untouched(const data::Batch& batch, const std::vector<std::string>& all_captions, DenoisingInputs& in);
  models::Conditioning conditioning(const data::Batch& batch, const std::vector<std::string>& all_captions);

  Denoising denoising_;
  std::unique_ptr<data::TensorCache> latent_cache_;
  std::unique_ptr<TextCache> text_cache_;
};

}  // namespace emulsion::train
