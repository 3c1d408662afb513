// A low-rank adapter on a frozen model.
#include "core/error.h"
#include "train/methods.h"
#include "weights/adapter_file.h"
#include "weights/load_model.h"

namespace emulsion::train {
namespace {

class Lora : public DenoiserMethod {
 public:
  Lora(const RunConfig& config, models::Model model)
      : DenoiserMethod(config, std::move(model)),
        set_(adapters::AdapterSet::create(std::get<LoraMethod>(config.method), model_.components(), rng_)),
        active_({{&set_, 1.0}}) {}

  std::string describe() const override {
    return fmt::format("LoRA of rank {} on {} layers, {:.3f} M weights, on {}", lora().rank, set_.bound().size(),
                       set_.numel() / 1e6, config_.model.path);
  }

  std::vector<Trainable> trainables() override {
    std::vector<Trainable> all;
    for (auto& bound : set_.bound()) {
      const std::string name = weights::kohya_name(bound.path);
      bound.adapter->down.set_requires_grad(true);
      bound.adapter->up.set_requires_grad(true);
      all.push_back({name + ".lora_down.weight", &bound.adapter->down});
      all.push_back({name + ".lora_up.weight", &bound.adapter->up});
    }
    return all;
  }

  std::filesystem::path save_result(const std::filesystem::path& run_folder) override {
    const auto file = run_folder / (config_.name + ".safetensors");
    weights::save_adapter(file, set_, weights::AdapterNaming::kohya, metadata());
    return file;
  }

 protected:
  bool text_encoder_changes() const override {
    for (const auto& bound : set_.bound()) {
      if (bound.path.starts_with("text_encoder.")) return true;
    }
    return false;
  }

 private:
  const LoraMethod& lora() const { return std::get<LoraMethod>(config_.method); }

  /// What kohya's tools and A1111's browser look for.
  std::map<std::string, std::string> metadata() const {
    const auto& lora = this->lora();
    std::string arguments = "{}";
    if (lora.conv_rank > 0) {
      arguments = fmt::format("{{\"conv_dim\": \"{}\", \"conv_alpha\": \"{}\"}}", lora.conv_rank, lora.conv_alpha);
    }
    const bool v = model_.scheduler.prediction == diffusion::Prediction::v_prediction;
    return {{"ss_network_module", "networks.lora"},
            {"ss_network_dim", std::to_string(lora.rank)},
            {"ss_network_alpha", fmt::format("{}", lora.alpha)},
            {"ss_network_args", arguments},
            {"ss_base_model_version", v ? "sd_v1_v" : "sd_v1"},
            {"ss_v2", "False"},
            {"ss_output_name", config_.name},
            {"ss_sd_model_name", config_.model.path},
            {"ss_steps", std::to_string(config_.steps)},
            {"ss_seed", std::to_string(config_.seed)},
            {"ss_learning_rate", fmt::format("{}", config_.optimizer.lr)},
            {"ss_resolution", fmt::format("({0}, {0})", config_.data.resolution)},
            {"modelspec.sai_model_spec", "1.0.1"},
            {"modelspec.architecture", "stable-diffusion-v1/lora"},
            {"modelspec.implementation", "diffusers"},
            {"modelspec.title", config_.name},
            {"modelspec.prediction_type", v ? "v" : "epsilon"}};
  }

  adapters::AdapterSet set_;
  adapters::ActiveAdapters active_;
};

}  // namespace

std::unique_ptr<Method> make_lora_method(const RunConfig& config, models::Model model) {
  model.convert(dtype_of(config.dtype));
  return std::make_unique<Lora>(config, std::move(model));
}

std::unique_ptr<Method> make_lora_method(const RunConfig& config) {
  models::Model model = weights::load_model(config.model.path);
  if (!config.model.vae.empty()) {
    weights::replace_vae(model, config.model.vae);
  }
  return make_lora_method(config, std::move(model));
}

}  // namespace emulsion::train
