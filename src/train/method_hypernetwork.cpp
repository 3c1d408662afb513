// Hypernetworks on a frozen model.
#include <ranges>

#include "train/methods.h"
#include "weights/hypernetwork_file.h"

namespace emulsion::train {
namespace {

class HypernetworkTraining : public DenoiserMethod {
 public:
  HypernetworkTraining(const RunConfig& config, models::Model model)
      : DenoiserMethod(config, std::move(model)),
        network_(adapters::Hypernetwork::create(settings(), model_.unet->store, rng_)),
        active_(model_.unet->store, {{&network_, 1.0}}) {}

  std::string describe() const override {
    int64_t count = 0;
    for (const auto& [name, tensor] : const_cast<adapters::Hypernetwork&>(network_).parts()) count += tensor->numel();
    return fmt::format("hypernetwork [{}] before keys and values of width {}, {:.3f} M weights, on {}",
                       fmt::join(settings().structure, ", "), fmt::join(network_.pairs | std::views::keys, ", "),
                       static_cast<double>(count) / 1e6, config_.model.path);
  }

  std::vector<Trainable> trainables() override {
    std::vector<Trainable> all;
    for (auto& [name, tensor] : network_.parts()) {
      tensor->set_requires_grad(true);
      all.push_back({name, tensor, tensor->dim() > 1});
    }
    return all;
  }

  std::filesystem::path save_result(const std::filesystem::path& run_folder) override {
    const auto file = run_folder / (config_.name + ".pt");
    weights::save_hypernetwork(file, network_, {settings(), config_.name, config_.model.path, config_.steps});
    return file;
  }

 protected:
  bool text_encoder_changes() const override { return false; }

 private:
  const HypernetworkMethod& settings() const { return std::get<HypernetworkMethod>(config_.method); }

  adapters::Hypernetwork network_;
  adapters::ActiveHypernetworks active_;
};

}  // namespace

std::unique_ptr<Method> make_hypernetwork_method(const RunConfig& config, models::Model model) {
  model.convert(dtype_of(config.dtype));
  return std::make_unique<HypernetworkTraining>(config, std::move(model));
}

std::unique_ptr<Method> make_hypernetwork_method(const RunConfig& config) {
  return make_hypernetwork_method(config, loaded_model(config, dtype_of(config.dtype)));
}

}  // namespace emulsion::train
