#include "weights/single_file.h"

#include <algorithm>

#include "config/enum_names.h"
#include "core/error.h"
#include "core/log.h"
#include "io/atomic_file.h"
#include "nn/pattern.h"
#include "weights/config_from_shapes.h"
#include "weights/family_of_model.h"
#include "weights/part_places.h"
#include "weights/refuse.h"

namespace emulsion::weights {
namespace {

namespace fs = std::filesystem;
using models::Family;
using models::Model;

const std::vector<std::string> kFileParts = {"unet", "vae", "text_encoder", "text_encoder_2"};

/// An open file and what was found in it.
struct Opened {
  std::shared_ptr<const io::TensorFile> tensors;
  std::string wrapper;  // stands before all names: "state_dict."
  std::map<std::string, FoundPart> parts;
  const LoadOptions& options;
  LoadReport& report;

  const FoundPart* find(const std::string& part) const {
    const auto found = parts.find(part);
    return found == parts.end() ? nullptr : &found->second;
  }
  const io::TensorFile& file() const { return *tensors; }
  std::string where() const { return file().path().string(); }
  bool has_key(const std::string& name) const { return file().contains(wrapper + name) || file().metadata().contains(name); }
};

/// torch files often wrap the tensors, sometimes twice.
std::string wrapper_of(const io::TensorFile& file) {
  std::string wrapper;
  const auto wraps = [&](const io::TensorFile::Entry& entry) { return entry.name.starts_with(wrapper + "state_dict."); };
  while (std::any_of(file.entries().begin(), file.entries().end(), wraps)) wrapper += "state_dict.";
  return wrapper;
}

// --- Which family --------------------------------------------------------------------------------------

/// The number of channels of the text states that the U-Net's cross-attention reads, and the tensor that says it.
std::pair<int64_t, std::string> context_width(const FoundPart& unet) {
  for (const auto& [name, entry] : unet.tensors.entries()) {
    if (name.ends_with(".attn2.to_k.weight") && entry->shape.size() == 2) {
      return {entry->shape[1], unet.tensors.describe(name)};
    }
  }
  return {0, ""};
}

/// sd1, sd2 or sdxl; nothing if no tensor tells them apart.
std::string kind_of(const Opened& opened) {
  LoadReport& report = opened.report;
  const FoundPart *unet = opened.find("unet"), *text = opened.find("text_encoder"), *text_2 = opened.find("text_encoder_2");
  if (text_2) {
    report.decide("two text encoders: Stable Diffusion XL", text_2->tensors.describe("token_embedding.weight"));
    return "sdxl";
  }
  if (unet && unet->tensors.contains("label_emb.0.0.weight")) {
    report.decide("sizes as a condition: Stable Diffusion XL", unet->tensors.describe("label_emb.0.0.weight"));
    return "sdxl";
  }
  if (text) {
    const bool open_clip = text->naming == Naming::open_clip;
    report.decide(open_clip ? "an OpenCLIP text encoder: Stable Diffusion 2" : "a CLIP text encoder: Stable Diffusion 1",
                  text->tensors.entries().begin()->second->name);
    return open_clip ? "sd2" : "sd1";
  }
  if (unet) {
    const auto [width, tensor] = context_width(*unet);
    const char* kind = width == 1024 ? "sd2" : width == 2048 ? "sdxl" : "sd1";
    report.decide(fmt::format("text states of {} channels: {}", width, kind), tensor);
    return kind;
  }
  return "";
}

Family family_of(const Opened& opened) {
  if (!opened.options.family.empty()) {
    opened.report.decide("family " + opened.options.family, "given");
    return models::find_family(opened.options.family);
  }
  std::string id = kind_of(opened);
  if (id.empty()) {
    if (!opened.options.vae_like) opened.report.decide("taken for an autoencoder of Stable Diffusion 1", "nothing: shapes do not tell; give the family");
    id = "sd1";
  }
  const FoundPart* unet = opened.find("unet");
  const char* input = unet && unet->naming == Naming::ldm ? "input_blocks.0.0.weight" : "conv_in.weight";
  const auto shape = unet ? unet->tensors.shape(input) : std::nullopt;
  if (shape && shape->size() == 4) {
    refuse_input_channels((*shape)[1], opened.where(), unet->tensors.describe(input));
    if ((*shape)[1] == 9) {
      opened.report.decide("mask and masked picture as input: inpainting", unet->tensors.describe(input));
      if (id != "sdxl") id += "_inpaint";
    }
  }
  return models::find_family(id == "sd2" ? "sd2_v" : id);  // the prediction is decided below
}

// --- Configs -------------------------------------------------------------------------------------------

/// That of the folder in `options`, or of the file's header, or what `derive` makes of the shapes.
template <class Config, class Derive>
Config config_of(const Opened& opened, const std::string& part, Config (*parse)(const std::string&, const std::string&),
                 const Derive& derive) {
  const fs::path given = opened.options.config / part / "config.json";
  if (!opened.options.config.empty() && fs::exists(given)) {
    opened.report.decide("config of " + part, given.string());
    return parse(io::read_file(given), given.string());
  }
  const auto header = opened.file().metadata().find("emulsion." + part);
  if (header != opened.file().metadata().end()) {
    opened.report.decide("config of " + part, "the file's header");
    return parse(header->second, opened.where() + ": header: emulsion." + part);
  }
  return derive();
}

/// diffusers' names tell a config only by comparison with the families.
models::UNetConfig unet_config_by_comparison(const FoundPart& unet, const models::UNetConfig& like) {
  for (const Family& family : models::families()) {
    const NameRules rules = diffusers_names(family.unet);
    const auto same = [&](const NameRule& rule) { return unet.tensors.shape(rule.foreign) == rule.shape; };
    if (std::all_of(rules.begin(), rules.end(), same)) return family.unet;
  }
  return like;  // what does not fit will be named
}

void set_configs(const Opened& opened, Family& family) {
  if (const FoundPart* unet = opened.find("unet")) {
    family.unet = config_of(opened, "unet", models::unet_config_from_json, [&] {
      if (unet->naming == Naming::diffusers) return unet_config_by_comparison(*unet, family.unet);
      return unet_config_from_shapes(unet->tensors, family.unet);
    });
  }
  if (const FoundPart* vae = opened.find("vae")) {
    const models::VaeConfig& like = opened.options.vae_like ? *opened.options.vae_like : family.vae;
    const bool alone = opened.parts.size() == 1;
    family.vae = config_of(opened, "vae", models::vae_config_from_json, [&] {
      return vae_config_from_shapes(vae->tensors, vae->naming, alone ? like : family.vae);
    });
  }
  const auto text = [&](const std::string& part, models::ClipTextConfig& config) {
    const FoundPart* found = opened.find(part);
    if (!found) return;
    config = config_of(opened, part, models::clip_text_config_from_json,
                       [&] { return clip_config_from_shapes(found->tensors, found->naming, config); });
  };
  text("text_encoder", family.text_encoder);
  if (family.text_encoder_2) text("text_encoder_2", *family.text_encoder_2);
}

// --- Scheduler -----------------------------------------------------------------------------------------

std::string metadata_of(const Opened& opened, const std::string& key) {
  const auto found = opened.file().metadata().find(key);
  return found == opened.file().metadata().end() ? "" : found->second;
}

/// What neither a flag nor a config says.
diffusion::Prediction usual_prediction(const Opened& opened, const Family& family) {
  using enum diffusion::Prediction;
  const auto decided = [&](diffusion::Prediction prediction, const std::string& from) {
    opened.report.decide(std::string("prediction: ") + config::name_of(prediction), from);
    return prediction;
  };
  const std::string spec = metadata_of(opened, "modelspec.prediction_type");
  if (spec == "v" || spec == "v_prediction") return decided(v_prediction, "modelspec.prediction_type");
  if (spec == "epsilon") return decided(epsilon, "modelspec.prediction_type");
  if (family.id != "sd2_v" || !opened.options.family.empty()) return decided(family.prediction, "the family");
  if (metadata_of(opened, "global_step") == "875000") return decided(epsilon, "global_step 875000, as the SD 2 base models");
  if (opened.options.prediction) return *opened.options.prediction;
  log::warning("{}: shapes do not tell Stable Diffusion 2 base from the 768 px models; taken for v-prediction, as most "
               "are. If pictures come out wrong, say --prediction epsilon",
               opened.where());
  return decided(v_prediction, "nothing: shapes do not tell SD 2 base from 768-v; say --prediction if it is wrong");
}

diffusion::SchedulerConfig stated_scheduler(const Opened& opened, const Family& family) {
  const fs::path given = opened.options.config / "scheduler" / "scheduler_config.json";
  if (!opened.options.config.empty() && fs::exists(given)) {
    opened.report.decide("scheduler", given.string());
    return diffusion::parse_scheduler_config(io::read_file(given), given.string());
  }
  if (const std::string header = metadata_of(opened, "emulsion.scheduler"); !header.empty()) {
    opened.report.decide("scheduler", "the file's header");
    return diffusion::parse_scheduler_config(header, opened.where() + ": header: emulsion.scheduler");
  }
  diffusion::SchedulerConfig scheduler = usual_scheduler(family);
  scheduler.prediction = usual_prediction(opened, family);
  return scheduler;
}

diffusion::SchedulerConfig scheduler_of(const Opened& opened, const Family& family) {
  diffusion::SchedulerConfig scheduler = stated_scheduler(opened, family);
  if (opened.has_key("v_pred")) {
    opened.report.decide("prediction: v_prediction", "the key 'v_pred'");
    scheduler.prediction = diffusion::Prediction::v_prediction;
  }
  if (opened.has_key("ztsnr")) {
    opened.report.decide("zero terminal SNR", "the key 'ztsnr'");
    scheduler.noise.zero_terminal_snr = true;
  }
  if (opened.options.prediction) {
    opened.report.decide(std::string("prediction: ") + config::name_of(*opened.options.prediction), "given");
    scheduler.prediction = *opened.options.prediction;
  }
  return scheduler;
}

// --- Weights -------------------------------------------------------------------------------------------

/// Averages are stored under names without dots: "model_ema.diffusion_modelinput_blocks00weight".
void take_averages(const Opened& opened, FoundPart& unet) {
  std::vector<std::string> missing;
  const PartTensors trained = unet.tensors;
  for (const auto& [name, entry] : trained.entries()) {
    std::string flat = name;
    std::erase(flat, '.');
    const auto* average = opened.file().find(opened.wrapper + "model_ema.diffusion_model" + flat);
    if (average) unet.tensors.redirect(name, *average);
    else missing.push_back("model_ema.diffusion_model" + flat);
  }
  EMULSION_CHECK(missing.empty(), not_found,
                 "[{}] expected averaged weights ('model_ema.*') of the U-Net, {} of {} are missing: {}; leave --ema out",
                 opened.where(), missing.size(), trained.entries().size(), list_some(missing));
  opened.report.decide("averaged weights", "model_ema.*, as asked");
}

/// Tensors that this file may have in this part, beyond those of the table.
std::vector<std::string> ignorable_in_file(const FoundPart& found, const models::ClipTextConfig* text) {
  std::vector<std::string> patterns = ignorable_in(found.part);
  if (!text) return patterns;
  if (!text->with_projection) patterns.push_back("text_projection*");
  // The last layer of SD 2's text encoder, whose state before it is what is read.
  const char* layer = found.naming == Naming::open_clip ? "transformer.resblocks.{}.*" : "*encoder.layers.{}.*";
  patterns.push_back(fmt::format(fmt::runtime(layer), text->num_hidden_layers));
  return patterns;
}

template <class Net>
void load(const Opened& opened, const std::string& name, std::unique_ptr<models::Part<Net>>& part) {
  const FoundPart* found = opened.find(name);
  if (!found || !opened.options.wants(name)) {
    part.reset();
    return;
  }
  if (!part) return;
  NameRules rules;
  std::vector<std::string> patterns;
  if constexpr (std::is_same_v<Net, models::ClipText>) {
    rules = rules_of(found->naming, part->net.config(), !opened.options.kohya_text_projection);
    patterns = ignorable_in_file(*found, &part->net.config());
  } else {
    rules = rules_of(found->naming, part->net.config());
    patterns = ignorable_in_file(*found, nullptr);
  }
  with_context(fmt::format("loading {}", name), [&] {
    fill(part->store, found->tensors, rules, opened.options.dtype, patterns, &opened.report);
  });
}

void sort_out_the_rest(const Opened& opened) {
  for (const auto& entry : opened.file().entries()) {
    const auto within = [&](const auto& found) { return entry.name.starts_with(found.second.prefix); };
    if (std::any_of(opened.parts.begin(), opened.parts.end(), within)) continue;
    const std::string name =
        entry.name.starts_with(opened.wrapper) ? entry.name.substr(opened.wrapper.size()) : entry.name;
    const auto& known = ignorable_outside_parts();
    const bool ignored = std::any_of(known.begin(), known.end(),
                                     [&](const std::string& pattern) { return nn::glob_match(pattern, name); });
    (ignored ? opened.report.ignored : opened.report.unknown).push_back(entry.name);
  }
  if (opened.report.unknown.empty()) return;
  log::warning("{}: {} tensors belong to no part of the model and are left out: {}", opened.where(),
               opened.report.unknown.size(), list_some(opened.report.unknown));
}

const char* without(const std::string& part) {
  if (part == "vae") return "pictures cannot be read or drawn until one is given with --vae";
  if (part == "unet") return "nothing can be drawn; the other parts can be used";
  return "prompts cannot be read";
}

void note_lacking(const Opened& opened, const Family& family) {
  for (const std::string& part : kFileParts) {
    if (opened.find(part) || (part == "text_encoder_2" && !family.text_encoder_2)) continue;
    opened.report.lacking.push_back(part);
    if (opened.options.parts.empty()) {
      log::warning("{}: holds no {}: {}", opened.where(), part, without(part));
    } else {
      EMULSION_CHECK(!opened.options.parts.contains(part), not_found, "[{}] expected a {}, got {}; give a file with one",
                     opened.where(), part, opened.parts.begin()->first);
    }
  }
}

Opened open(const fs::path& path, const LoadOptions& options, LoadReport& report) {
  auto file = std::make_shared<const io::TensorFile>(io::open_tensor_file(path));
  const std::string wrapper = wrapper_of(*file);
  Opened opened{std::move(file), wrapper, {}, options, report};
  refuse_other_files(opened.file(), wrapper);
  for (const std::string& part : kFileParts) {
    if (auto found = find_part(opened.file(), wrapper, part)) opened.parts.emplace(part, std::move(*found));
  }
  if (opened.parts.empty()) {
    std::vector<std::string> names;
    for (const auto& entry : opened.file().entries()) names.push_back(entry.name);
    throw Error(ErrorCode::not_found, fmt::format("[{}] expected a model or a part of one, got tensors of no known model: "
                                                  "{}; 'emulsion inspect' shows all",
                                                  path.string(), names.empty() ? "none at all" : list_some(names)));
  }
  return opened;
}

DetectedModel detect(const Opened& opened) {
  DetectedModel found{family_of(opened), {}, {}};
  Family& family = found.family;
  found.scheduler = scheduler_of(opened, family);
  const bool base = family.id == "sd2_v" && found.scheduler.prediction == diffusion::Prediction::epsilon;
  if (base && opened.options.family.empty()) family = models::find_family("sd2");
  set_configs(opened, family);
  for (const auto& [part, place] : opened.parts) found.parts.push_back(part);
  opened.report.decide(family.name, "all of the above");
  return found;
}

}  // namespace

DetectedModel detect_single_file(const fs::path& path, const LoadOptions& options) {
  LoadReport unread;
  const Opened opened = open(path, options, options.report ? *options.report : unread);
  return detect(opened);
}

Model load_single_file(const fs::path& path, const LoadOptions& options) {
  LoadReport unread;
  Opened opened = open(path, options, options.report ? *options.report : unread);
  const DetectedModel detected = detect(opened);
  note_lacking(opened, detected.family);
  if (options.ema && opened.find("unet")) take_averages(opened, opened.parts.at("unet"));

  Model model = models::declare(detected.family);
  model.scheduler = detected.scheduler;
  load(opened, "unet", model.unet);
  load(opened, "vae", model.vae);
  load(opened, "text_encoder", model.text_encoder);
  load(opened, "text_encoder_2", model.text_encoder_2);
  sort_out_the_rest(opened);
  return model;
}

}  // namespace emulsion::weights
