#include "diffusion/scheduler_config.h"

#include <nlohmann/json.hpp>

#include "config/enum_names.h"
#include "core/error.h"

namespace emulsion::diffusion {
namespace {

using nlohmann::json;

/// What a diffusers class assumes for an option its file leaves out, and which options it has at
/// all.
struct ClassRow {
  std::string_view name;
  SigmaSchedule spacing;
  bool clips;           // has clip_sample, true by default
  bool alpha_option;    // has set_alpha_to_one
  bool alpha_to_one;    // its default
  bool karras_option;   // has use_karras_sigmas
  bool rescale_option;  // has rescale_betas_zero_snr
};

constexpr ClassRow kClasses[] = {
    {"DDIMScheduler", SigmaSchedule::leading, true, true, true, false, true},
    {"DDPMScheduler", SigmaSchedule::leading, true, false, true, false, true},
    {"PNDMScheduler", SigmaSchedule::leading, false, true, false, false, false},
    {"EulerDiscreteScheduler", SigmaSchedule::linspace, false, false, true, true, true},
    {"EulerAncestralDiscreteScheduler", SigmaSchedule::linspace, false, false, true, false, true},
    {"DPMSolverMultistepScheduler", SigmaSchedule::linspace, false, false, true, true, true},
};
/// For classes without a row: the noise schedule's keys are the same in all of diffusers.
constexpr ClassRow kOther = {"", SigmaSchedule::linspace, false, false, true, true, true};

const ClassRow& row_of(std::string_view class_name) {
  for (const ClassRow& row : kClasses) {
    if (row.name == class_name) return row;
  }
  return kOther;
}

/// Options that change a sample, with the only value that is built. Python's -Infinity arrives as
/// null.
const std::vector<std::pair<const char*, json>>& built_values() {
  static const std::vector<std::pair<const char*, json>> kValues = {
      {"thresholding", false},
      {"use_exponential_sigmas", false},
      {"use_beta_sigmas", false},
      {"use_lu_lambdas", false},
      {"use_flow_sigmas", false},
      {"final_sigmas_type", "zero"},
      {"interpolation_type", "linear"},
      {"timestep_type", "discrete"},
      {"algorithm_type", "dpmsolver++"},
      {"solver_type", "midpoint"},
      {"solver_order", 2},
      {"lambda_min_clipped", nullptr},
      {"variance_type", nullptr},
      {"sigma_min", nullptr},
      {"sigma_max", nullptr},
  };
  return kValues;
}

/// Python writes infinities as bare words, which JSON does not have; they become null.
std::string without_infinities(std::string_view text) {
  std::string clean;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"' && (i == 0 || text[i - 1] != '\\')) quoted = !quoted;
    const std::string_view rest = text.substr(i);
    size_t word = 0;
    for (const std::string_view name : {"-Infinity", "Infinity"}) {
      if (!quoted && word == 0 && rest.starts_with(name)) word = name.size();
    }
    if (word == 0) {
      clean += text[i];
    } else {
      clean += "null";
      i += word - 1;
    }
  }
  return clean;
}

json parse_object(std::string_view text, std::string_view file) {
  const json root = json::parse(without_infinities(text), nullptr, false);
  EMULSION_CHECK(root.is_object(), format, "[{}] expected a JSON object, got {}", file,
                 root.is_discarded() ? "text that is not JSON" : root.type_name());
  return root;
}

/// A value of the file's object, or `otherwise` if it is absent or null.
template <class T>
T value_or(const json& root, const char* key, T otherwise, std::string_view file) {
  const auto found = root.find(key);
  if (found == root.end() || found->is_null()) return otherwise;
  try {
    return found->get<T>();
  } catch (const json::exception&) {
    throw Error(ErrorCode::format, fmt::format("[{}] expected another type for '{}', got {}", file,
                                               key, found->dump()));
  }
}

/// A named value; unlike config::value_of an unknown name is a thing of diffusers that is not
/// built.
template <class E>
E named(const json& root, const char* key, E otherwise, std::string_view file) {
  const auto name = value_or<std::string>(root, key, config::name_of(otherwise), file);
  for (const auto& [value, candidate] : enum_names(E{})) {
    if (name == candidate) return value;
  }
  throw Error(ErrorCode::unsupported,
              fmt::format("[{}] expected '{}' to be one of {}, got '{}'", file, key,
                          fmt::join(config::names_of<E>(), ", "), name));
}

NoiseScheduleConfig noise_of(const json& root, std::string_view file) {
  EMULSION_CHECK(
      !root.contains("trained_betas") || root["trained_betas"].is_null(), unsupported,
      "[{}] expected 'trained_betas' to be null, got a list; only beta_schedule is built", file);
  NoiseScheduleConfig noise;
  noise.beta_schedule = named(root, "beta_schedule", BetaSchedule::linear, file);
  noise.beta_start = value_or(root, "beta_start", 0.0001, file);
  noise.beta_end = value_or(root, "beta_end", 0.02, file);
  noise.timesteps = value_or<int64_t>(root, "num_train_timesteps", 1000, file);
  noise.zero_terminal_snr = value_or(root, "rescale_betas_zero_snr", false, file);
  return noise;
}

std::vector<std::string> not_built_in(const json& root, const ClassRow& row,
                                      std::string_view file) {
  std::vector<std::string> options;
  if (value_or(root, "clip_sample", row.clips, file)) options.emplace_back("clip_sample = true");
  for (const auto& [key, built] : built_values()) {
    const auto found = root.find(key);
    if (found == root.end() || found->is_null() || *found == built) continue;
    options.push_back(fmt::format("{} = {}", key, found->dump()));
  }
  return options;
}

std::string sampler_ids() {
  std::vector<std::string_view> ids;
  for (const Sampler& sampler : samplers()) ids.push_back(sampler.id);
  return fmt::format("{}", fmt::join(ids, "|"));
}

}  // namespace

SchedulerConfig parse_scheduler_config(std::string_view text, std::string_view file) {
  const json root = parse_object(text, file);
  EMULSION_CHECK(root.contains("_class_name"), format,
                 "[{}] expected the key '_class_name' of a diffusers scheduler, got none", file);
  SchedulerConfig config;
  config.class_name = value_or<std::string>(root, "_class_name", "", file);
  const ClassRow& row = row_of(config.class_name);
  config.noise = noise_of(root, file);
  config.prediction = named(root, "prediction_type", Prediction::epsilon, file);
  config.spacing = named(root, "timestep_spacing", row.spacing, file);
  config.options.steps_offset = value_or<int64_t>(root, "steps_offset", 0, file);
  config.options.set_alpha_to_one = value_or(root, "set_alpha_to_one", row.alpha_to_one, file);
  config.options.use_karras_sigmas = value_or(root, "use_karras_sigmas", false, file);
  config.not_built = not_built_in(root, row, file);
  return config;
}

std::string to_json(const SchedulerConfig& config) {
  const ClassRow& row = row_of(config.class_name);
  EMULSION_CHECK(
      config.spacing != SigmaSchedule::normal && config.spacing != SigmaSchedule::karras,
      unsupported,
      "[scheduler config] expected the spacing leading, linspace or trailing, got {}; set "
      "use_karras_sigmas for karras",
      config::name_of(config.spacing));
  nlohmann::ordered_json root = {
      {"_class_name", config.class_name},
      {"_diffusers_version", "0.42.0"},
      {"beta_end", config.noise.beta_end},
      {"beta_schedule", config::name_of(config.noise.beta_schedule)},
      {"beta_start", config.noise.beta_start},
      {"num_train_timesteps", config.noise.timesteps},
      {"prediction_type", config::name_of(config.prediction)},
      {"steps_offset", config.options.steps_offset},
      {"timestep_spacing", config::name_of(config.spacing)},
      {"trained_betas", nullptr},
  };
  if (row.clips) root["clip_sample"] = false;
  if (row.alpha_option) root["set_alpha_to_one"] = config.options.set_alpha_to_one;
  if (row.karras_option) root["use_karras_sigmas"] = config.options.use_karras_sigmas;
  if (row.rescale_option) root["rescale_betas_zero_snr"] = config.noise.zero_terminal_snr;
  if (config.class_name == "PNDMScheduler") root["skip_prk_steps"] = true;
  return root.dump(2) + "\n";
}

const Sampler& sampler_for(const SchedulerConfig& config) {
  EMULSION_CHECK(config.not_built.empty(), unsupported,
                 "[scheduler config] {} with {} is not built; choose a solver with --sampler {}",
                 config.class_name, fmt::join(config.not_built, ", "), sampler_ids());
  for (const Sampler& sampler : samplers()) {
    if (sampler.diffusers_class == config.class_name) return sampler;
  }
  throw Error(
      ErrorCode::unsupported,
      fmt::format("[scheduler config] the solver {} is not built; choose one with --sampler {}",
                  config.class_name, sampler_ids()));
}

}  // namespace emulsion::diffusion
