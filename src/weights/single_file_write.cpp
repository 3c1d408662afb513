// Writing whole models in LDM's layout.
#include <map>

#include "core/error.h"
#include "io/safetensors.h"
#include "weights/family_of_model.h"
#include "weights/part_places.h"
#include "weights/single_file.h"

namespace emulsion::weights {
namespace {

using models::Model;

/// Tensors under their foreign names, as in memory or in another dtype.
class Collector {
 public:
  Collector(at::ScalarType dtype, bool bare) : dtype_(dtype), bare_(bare) {}

  void add(const std::string& prefix, const nn::ParamStore& store, const NameRules& rules) {
    std::map<std::string, Tensor> ours;
    for (const nn::Param& param : store.params()) ours[param.path] = param.value.detach();
    std::map<std::string, std::vector<const NameRule*>> sources;  // several where ours are rows of one
    for (const NameRule& rule : rules) sources[rule.foreign].push_back(&rule);
    for (const auto& [foreign, parts] : sources) {
      std::vector<Tensor> values;
      for (const NameRule* rule : parts) values.push_back(cast(ours.at(rule->canonical)));
      tensors_.emplace_back((bare_ ? "" : prefix) + foreign, to_foreign(parts.front()->transform, values));
    }
  }

  /// Writes what is there under `from` once more under `to`.
  void repeat(const std::string& from, const std::string& to) {
    NamedTensors again;
    for (const auto& [name, value] : tensors_) {
      if (name.starts_with(from)) again.emplace_back(to + name.substr(from.size()), value);
    }
    tensors_.insert(tensors_.end(), again.begin(), again.end());
  }

  void flag(const std::string& name) { tensors_.emplace_back(name, at::empty({0}, at::kFloat)); }

  const NamedTensors& tensors() const { return tensors_; }

 private:
  Tensor cast(const Tensor& value) const { return dtype_ == at::ScalarType::Undefined ? value : value.to(dtype_); }

  at::ScalarType dtype_;
  bool bare_;
  NamedTensors tensors_;
};

void add_text_encoders(Collector& all, const Model& model, const SingleFileOptions& options) {
  if (options.bare) {  // in files of their own they have transformers' names
    for (const auto* part : {model.text_encoder.get(), model.text_encoder_2.get()}) {
      if (part) all.add("", part->store, prefixed_clip_names(part->net.config()));
    }
    return;
  }
  if (model.text_encoder_2) {
    const auto& second = *model.text_encoder_2;
    all.add("conditioner.embedders.1.model.", second.store,
            open_clip_names(second.net.config(), !options.kohya_text_projection));
  }
  if (!model.text_encoder) return;
  const auto& first = *model.text_encoder;
  const models::Family& family = nearest_family(model);
  if (family.text_encoder.hidden_act == models::Activation::quick_gelu) {
    const char* prefix = family.text_encoder_2 ? "conditioner.embedders.0.transformer." : "cond_stage_model.transformer.";
    all.add(prefix, first.store, prefixed_clip_names(first.net.config()));
    return;
  }
  const std::string prefix = "cond_stage_model.model.";
  all.add(prefix, first.store, open_clip_names(first.net.config()));
  // Readers that build all 24 layers want the one that nobody runs; kohya's scripts repeat the last of the others, too.
  if (first.net.config() == models::find_family("sd2").text_encoder) {
    all.repeat(prefix + "transformer.resblocks.22.", prefix + "transformer.resblocks.23.");
  }
}

/// Configs that reading would not find by itself.
void add_configs(const Model& model, std::map<std::string, std::string>& header) {
  const models::Family& family = nearest_family(model);
  const auto add = [&](const char* part, const auto& made, const auto& usual) {
    if (made && !(made->net.config() == usual)) header[std::string("emulsion.") + part] = to_json(made->net.config());
  };
  add("unet", model.unet, family.unet);
  add("vae", model.vae, family.vae);
  add("text_encoder", model.text_encoder, family.text_encoder);
  if (model.text_encoder_2) add("text_encoder_2", model.text_encoder_2, *family.text_encoder_2);
  diffusion::SchedulerConfig usual = usual_scheduler(family);
  usual.prediction = model.scheduler.prediction;
  const std::string scheduler = diffusion::to_json(model.scheduler);
  if (scheduler != diffusion::to_json(usual)) header["emulsion.scheduler"] = scheduler;
}

std::map<std::string, std::string> header_of(const Model& model, const SingleFileOptions& options,
                                             const NamedTensors& tensors) {
  const bool v = model.scheduler.prediction == diffusion::Prediction::v_prediction;
  std::map<std::string, std::string> header = options.metadata;
  header["format"] = "pt";
  header["modelspec.sai_model_spec"] = "1.0.1";
  header["modelspec.architecture"] = modelspec_architecture(model) + (options.bare ? "/" + model.components().front().name : "");
  header["modelspec.implementation"] = model.text_encoder_2 ? "https://github.com/Stability-AI/generative-models"
                                                            : "https://github.com/CompVis/stable-diffusion";
  if (!options.title.empty()) header["modelspec.title"] = options.title;
  if (model.scheduler.prediction != diffusion::Prediction::sample) header["modelspec.prediction_type"] = v ? "v" : "epsilon";
  if (model.unet) {
    const int64_t factor = model.vae ? model.vae->net.config().factor() : 8;
    header["modelspec.resolution"] = fmt::format("{0}x{0}", model.unet->net.config().sample_size * factor);
  }
  header["modelspec.hash_sha256"] = "0x" + io::safetensors_data_sha256(tensors);
  add_configs(model, header);
  return header;
}

}  // namespace

void save_single_file(const std::filesystem::path& path, const Model& model, const SingleFileOptions& options) {
  EMULSION_CHECK(!options.bare || model.components().size() == 1, internal, "a bare file of several parts");
  Collector all(options.dtype, options.bare);
  if (model.unet) all.add("model.diffusion_model.", model.unet->store, ldm_names(model.unet->net.config()));
  if (model.vae) all.add("first_stage_model.", model.vae->store, ldm_names(model.vae->net.config()));
  add_text_encoders(all, model, options);
  // As fine-tunes of SDXL say it; elsewhere the header does.
  if (model.text_encoder_2 && model.scheduler.prediction == diffusion::Prediction::v_prediction) all.flag("v_pred");
  if (model.scheduler.noise.zero_terminal_snr) all.flag("ztsnr");
  EMULSION_CHECK(!all.tensors().empty(), not_found, "[{}] expected a model with at least one part, got none", path.string());
  io::write_safetensors(path, all.tensors(), header_of(model, options, all.tensors()));
}

}  // namespace emulsion::weights
