// Latent diffusion with text conditioning, whole networks: from random weights, or fine-tuning.
#include "core/error.h"
#include "nn/pattern.h"
#include "train/methods.h"
#include "weights/load_model.h"
#include "weights/model_folder.h"

namespace emulsion::train {
namespace {

class Diffusion : public DenoiserMethod {
 public:
  Diffusion(const RunConfig& config, models::Model model, bool train_text_encoder)
      : DenoiserMethod(config, std::move(model)), train_text_encoder_(train_text_encoder) {
    check_rules();
  }

  std::string describe() const override {
    return fmt::format("U-Net with {:.2f} M weights{}, {}", model_.unet->store.numel() / 1e6,
                       train_text_encoder_
                           ? fmt::format(" and text encoder with {:.2f} M", model_.text_encoder->store.numel() / 1e6)
                           : "",
                       config_.model.path.empty() ? "from random weights" : "from " + config_.model.path);
  }

  std::vector<Trainable> trainables() override {
    std::vector<Trainable> all;
    for (const auto& [name, store, prefix] : trained_parts()) {
      add_trainables(*store, prefix, all, [&](const std::string& path) { return rule_of(name + "." + path); });
    }
    EMULSION_CHECK(!all.empty(), config, "[method] layers: every weight has lr = 0, so that nothing trains");
    return all;
  }

  std::filesystem::path save_result(const std::filesystem::path& run_folder) override {
    // What did not train is written as it was read, not as it was rounded for computing.
    if (config_.dtype != ComputeDtype::float32) {
      weights::replace_vae(model_, config_.model.vae.empty() ? config_.model.path : config_.model.vae);
      if (!train_text_encoder_ && !config_.model.path.empty()) {
        model_.text_encoder =
            weights::load_model(config_.model.path, {.dtype = at::kFloat, .parts = {"text_encoder"}}).text_encoder;
      }
    }
    if (config_.dtype != ComputeDtype::float32 && !config_.model.path.empty() && !rules().empty()) restore_still_weights();
    weights::save_model_folder(run_folder / "model", model_);
    return run_folder / "model";
  }

 protected:
  bool text_encoder_changes() const override { return train_text_encoder_; }

 private:
  struct TrainedPart {
    std::string name;
    nn::ParamStore* store;
    std::string prefix;  // in the part's file
  };
  std::vector<TrainedPart> trained_parts() {
    std::vector<TrainedPart> parts = {{"unet", &model_.unet->store, ""}};
    if (train_text_encoder_) parts.push_back({"text_encoder", &model_.text_encoder->store, "text_model."});
    return parts;
  }

  const std::vector<WeightRule>& rules() const { return std::get<DiffusionMethod>(config_.method).layers; }

  WeightRule rule_of(const std::string& path) const {
    WeightRule last{.lr = 1};
    for (const WeightRule& rule : rules()) {
      if (nn::glob_match(rule.pattern, path)) last = rule;
    }
    return last;
  }

  void check_rules() {
    std::vector<std::string> names;
    for (const auto& [name, store, prefix] : trained_parts()) {
      for (const nn::Param& param : store->params()) names.push_back(name + "." + param.path);
    }
    for (const WeightRule& rule : rules()) nn::select({rule.pattern}, names);  // one that matches nothing is refused
  }

  /// Weights that did not train, as they were read.
  void restore_still_weights() {
    models::Model read = weights::load_model(config_.model.path, {.dtype = at::kFloat, .parts = {"unet", "text_encoder"}});
    for (const auto& [name, store, prefix] : trained_parts()) {
      nn::ParamStore& from = name == "unet" ? read.unet->store : read.text_encoder->store;
      for (nn::Param& param : store->params()) {
        if (rule_of(name + "." + param.path).lr == 0) store->assign(param, from.at(param.path).value);
      }
    }
  }

  bool train_text_encoder_;
};

/// The autoencoder of an existing model with new networks around it.
models::Model new_model(const RunConfig& config) {
  models::ArchitectureConfig architecture = config.model.architecture;
  models::Model model = weights::load_model(config.model.vae, {.dtype = at::kFloat, .parts = {"vae"}});
  const auto& vae = model.need_vae("a new diffusion model").config();
  architecture.latent_channels = vae.latent_channels;
  models::UNetConfig unet = models::unet_config(architecture);
  unet.sample_size = config.data.resolution / vae.factor();
  const Rng rng(static_cast<uint64_t>(config.seed));
  model.unet = models::new_unet(unet, rng);
  model.text_encoder = models::new_text_encoder(models::clip_text_config(architecture), rng);
  model.tokenizer = models::ClipTokenizer::truncated(architecture.text_merges);
  model.scheduler.noise = config.noise;
  model.scheduler.prediction = config.prediction;
  return model;
}

}  // namespace

std::unique_ptr<Method> make_diffusion_method(const RunConfig& config, models::Model model) {
  model.convert(dtype_of(config.dtype));
  return std::make_unique<Diffusion>(config, std::move(model),
                                     std::get<DiffusionMethod>(config.method).train_text_encoder);
}

std::unique_ptr<Method> make_diffusion_method(const RunConfig& config) {
  return make_diffusion_method(config, config.model.path.empty() ? new_model(config) : loaded_model(config));
}

}  // namespace emulsion::train
