// LoRA and its relatives on a frozen model.
#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "adapters/lora.h"
#include "config/enum_names.h"
#include "core/error.h"
#include "io/safetensors.h"
#include "train/learned_words.h"
#include "train/methods.h"
#include "weights/adapter_file.h"

namespace emulsion::train {
namespace {

class Lora : public DenoiserMethod {
 public:
  Lora(const RunConfig& config, models::Model model)
      : DenoiserMethod(config, std::move(model)),
        names_(model_),
        set_(first_adapters()),
        active_({{&set_, 1.0}}) {
    if (!lora().words.empty()) words_ = std::make_unique<LearnedWords>(model_, lora().words, rng_);
  }

  std::string describe() const override {
    const auto& lora = this->lora();
    const std::string kind = !lora.start.empty() ? lora.start + ", going on," : fmt::format("{}{}{}", config::name_of(lora.algo),
                             lora.dora ? " with dora" : "", has_rank() ? fmt::format(" of rank {}", lora.rank) : "");
    const std::string words = words_ ? fmt::format(" and {} word{}", lora.words.size(), lora.words.size() == 1 ? "" : "s") : "";
    return fmt::format("{}{} on {} layers, {:.3f} M weights, on {}", kind, words, set_.bound().size(), set_.numel() / 1e6,
                       config_.model.path);
  }

  std::vector<Trainable> trainables() override {
    std::vector<Trainable> all;
    for (auto& bound : set_.bound()) {
      const std::string name = names_.written(bound.path, weights::AdapterNaming::kohya);
      for (const adapters::Adapter::Part& part : bound.adapter->parts()) {
        part.tensor->set_requires_grad(true);
        const double factor = part.name == "lora_up.weight" ? lora().lora_plus : 1;
        all.push_back({name + "." + part.name, part.tensor, /*decays=*/true, bound.rule.lr * factor, bound.rule.from,
                       bound.rule.until});
      }
    }
    if (words_) std::ranges::copy(words_->trainables(), std::back_inserter(all));
    return all;
  }

  void prepare(const data::BatchSource& source, const std::filesystem::path& cache, Reporter& reporter) override {
    if (words_) words_->check_captions(source.index(), reporter);
    DenoiserMethod::prepare(source, cache, reporter);
  }

  void after_update() override {
    if (lora().max_norm > 0) set_.limit_norms(lora().max_norm);
  }

  std::filesystem::path save_result(const std::filesystem::path& run_folder) override {
    const auto file = run_folder / (config_.name + ".safetensors");
    for (size_t i = 0; i < lora().words.size(); ++i)  // for programs that read no bundles
      io::write_safetensors(run_folder / (lora().words[i].token + ".safetensors"), words_->file_of(i));
    weights::save_adapter(file, result(), names_, weights::AdapterNaming::kohya, metadata(), at::kFloat,
                          words_ && lora().bundle_words ? words_->bundle() : NamedTensors());
    return file;
  }

 protected:
  bool text_encoder_changes() const override {
    for (const auto& bound : set_.bound()) {
      if (bound.path.starts_with("text_encoder")) return true;  // the first or the second
    }
    return words_ != nullptr;
  }
  std::vector<std::vector<models::NamedTokens>> learned_words() const override {
    return words_ ? words_->names() : std::vector<std::vector<models::NamedTokens>>();
  }

 private:
  const LoraMethod& lora() const { return std::get<LoraMethod>(config_.method); }

  adapters::AdapterSet first_adapters() {
    if (lora().start.empty()) return adapters::AdapterSet::create(lora(), model_.components(), rng_);
    adapters::AdapterSet set = weights::load_adapter(lora().start, model_);
    set.follow(lora());
    return set;
  }

  /// What the file holds: an effect on the model as it was.
  const adapters::AdapterSet& result() {
    if (!adapters::starts_at_weight(lora())) return set_;
    result_ = adapters::AdapterSet();
    for (const auto& bound : set_.bound()) {
      const auto& adapter = dynamic_cast<const adapters::LoraAdapter&>(*bound.adapter);
      result_.add({bound.path, bound.leaf, adapters::relative_to_whole_weight(adapter, *bound.leaf), bound.rule});
    }
    return result_;
  }

  /// Rank and alpha as the file's metadata give them, of 3x3 convolutions or of all else; "Dynamic" where layers differ, as
  /// sd-scripts says; as the run file says where they are not plain LoRA.
  std::array<std::string, 2> rank_and_alpha(bool large) {
    std::set<std::array<std::string, 2>> all;
    for (const auto& bound : result().bound()) {
      const auto* adapter = dynamic_cast<const adapters::LoraAdapter*>(bound.adapter.get());
      if (!adapter || adapters::is_large_convolution(*bound.leaf) != large) continue;
      all.insert({std::to_string(adapter->rank()), fmt::format("{}", adapter->alpha)});
    }
    if (all.empty() && large) return {std::to_string(lora().conv_rank), fmt::format("{}", lora().conv_alpha)};
    if (all.empty()) return {std::to_string(lora().rank), fmt::format("{}", lora().alpha)};
    return all.size() == 1 ? *all.begin() : std::array<std::string, 2>{"Dynamic", "Dynamic"};
  }

  bool has_rank() const {
    constexpr adapters::Algorithm kWithout[] = {adapters::Algorithm::ia3, adapters::Algorithm::full, adapters::Algorithm::bias,
                                                adapters::Algorithm::norm};
    return std::ranges::find(kWithout, lora().algo) == std::end(kWithout);
  }
  /// What kohya's own networks.lora can load; everything else is a file of LyCORIS.
  bool is_kohya() const {
    return lora().algo == adapters::Algorithm::lora && !lora().dora && !lora().tucker && lora().norms.empty();
  }

  /// ss_network_args, JSON.
  std::string arguments() {
    const auto& lora = this->lora();
    nlohmann::json arguments = nlohmann::json::object();
    if (!is_kohya()) arguments["algo"] = lora.algo == adapters::Algorithm::lora ? "locon" : config::name_of(lora.algo);
    if (const auto [rank, alpha] = rank_and_alpha(/*large=*/true); rank != "0") {
      arguments["conv_dim"] = rank;
      arguments["conv_alpha"] = alpha;
    }
    if (lora.rank_dropout > 0) arguments["rank_dropout"] = fmt::format("{}", lora.rank_dropout);
    if (lora.module_dropout > 0) arguments["module_dropout"] = fmt::format("{}", lora.module_dropout);
    if (lora.lora_plus != 1) arguments["loraplus_lr_ratio"] = fmt::format("{}", lora.lora_plus);
    if (lora.dora) arguments["dora_wd"] = "True";
    if (lora.tucker) arguments["use_tucker"] = "True";
    if (!lora.norms.empty()) arguments["train_norm"] = "True";
    if (lora.algo == adapters::Algorithm::lokr) arguments["factor"] = std::to_string(lora.factor);
    return arguments.dump();
  }

  /// The names by which the field knows a family: kohya's of ss_base_model_version, and modelspec.architecture.
  std::array<std::string, 2> family_names() const {
    const bool v = model_.scheduler.prediction == diffusion::Prediction::v_prediction;
    if (model_.text_encoder_2) return {"sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"};
    if (model_.unet->net.config().cross_attention_dim != 1024) return {v ? "sd_v1_v" : "sd_v1", "stable-diffusion-v1/lora"};
    return v ? std::array<std::string, 2>{"sd_v2_v", "stable-diffusion-v2-768-v/lora"}
             : std::array<std::string, 2>{"sd_v2", "stable-diffusion-v2-512/lora"};
  }

  /// What kohya's tools and A1111's browser look for.
  std::map<std::string, std::string> metadata() {
    const auto [rank, alpha] = rank_and_alpha(/*large=*/false);
    const auto [kohya_family, architecture] = family_names();
    const bool v = model_.scheduler.prediction == diffusion::Prediction::v_prediction;
    return {{"ss_network_module", is_kohya() ? "networks.lora" : "lycoris.kohya"},
            {"ss_network_dim", rank},
            {"ss_network_alpha", alpha},
            {"ss_network_args", arguments()},
            {"ss_base_model_version", kohya_family},
            {"ss_v2", kohya_family.starts_with("sd_v2") ? "True" : "False"},
            {"ss_output_name", config_.name},
            {"ss_sd_model_name", config_.model.path},
            {"ss_steps", std::to_string(config_.steps)},
            {"ss_seed", std::to_string(config_.seed)},
            {"ss_clip_skip", config_.text.clip_skip > 0 ? std::to_string(config_.text.clip_skip) : "None"},
            {"ss_learning_rate", fmt::format("{}", optim::learning_rate(config_.optimizer))},
            {"ss_resolution", fmt::format("({0}, {0})", config_.data.resolution)},
            {"modelspec.sai_model_spec", "1.0.1"},
            {"modelspec.architecture", architecture},
            {"modelspec.implementation", "diffusers"},
            {"modelspec.title", config_.name},
            {"modelspec.prediction_type", v ? "v" : "epsilon"}};
  }

  weights::LayerNames names_;
  adapters::AdapterSet set_;
  adapters::ActiveAdapters active_;
  adapters::AdapterSet result_;
  std::unique_ptr<LearnedWords> words_;  // none: an adapter alone
};

}  // namespace

std::unique_ptr<Method> make_lora_method(const RunConfig& config, models::Model model) {
  model.convert(dtype_of(config.dtype));
  return std::make_unique<Lora>(config, std::move(model));
}

std::unique_ptr<Method> make_lora_method(const RunConfig& config) {
  return make_lora_method(config, loaded_model(config, dtype_of(config.dtype)));
}

}  // namespace emulsion::train
