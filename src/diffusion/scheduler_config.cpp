#include "diffusion/scheduler_config.h"

#include <nlohmann/json.hpp>

#include "config/enum_names.h"
#include "core/error.h"
#include "core/json_depth.h"
#include "core/json_numbers.h"

namespace emulsion::diffusion {
namespace {

using nlohmann::json;

/// What a diffusers class assumes for an option its file leaves out, and which options it has at
/// all.
struct ClassRow {
  std::string_view name;
  SigmaSchedule spacing;
  bool clips;             // has clip_sample, true by default
  bool alpha_option;      // has set_alpha_to_one
  bool alpha_to_one;      // its default
  bool respacing_option;  // has use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas
  bool rescale_option;    // has rescale_betas_zero_snr
};

constexpr auto kLeading = SigmaSchedule::leading, kLinspace = SigmaSchedule::linspace;
constexpr ClassRow kClasses[] = {
    {"DDIMScheduler", kLeading, true, true, true, false, true},
    {"DDPMScheduler", kLeading, true, false, true, false, true},
    {"PNDMScheduler", kLeading, false, true, false, false, false},
    {"LCMScheduler", kLeading, false, true, true, false, true},
    {"EulerDiscreteScheduler", kLinspace, false, false, true, true, true},
    {"EulerAncestralDiscreteScheduler", kLinspace, false, false, true, false, true},
    {"HeunDiscreteScheduler", kLinspace, false, false, true, true, false},
    {"KDPM2DiscreteScheduler", kLinspace, false, false, true, true, false},
    {"KDPM2AncestralDiscreteScheduler", kLinspace, false, false, true, true, false},
    {"LMSDiscreteScheduler", kLinspace, false, false, true, true, false},
    {"DPMSolverMultistepScheduler", kLinspace, false, false, true, true, true},
    {"DPMSolverSDEScheduler", kLinspace, false, false, true, true, false},
    {"UniPCMultistepScheduler", kLinspace, false, false, true, true, true},
    {"DEISMultistepScheduler", kLinspace, false, false, true, true, false},
};
/// For classes without a row: the noise schedule's keys are the same in all of diffusers.
constexpr ClassRow kOther = {"", kLinspace, false, false, true, true, true};

const ClassRow& row_of(std::string_view class_name) {
  for (const ClassRow& row : kClasses) {
    if (row.name == class_name) return row;
  }
  return kOther;
}

/// An option that changes a sample, and the only value of it that is built.
struct BuiltValue {
  std::string_view class_name;  // empty: of every class
  const char* key;
  json built;
  json otherwise =
      nullptr;  // what the class assumes if the file leaves it out; null: what is built
};

/// Python's -Infinity arrives as null.
const std::vector<BuiltValue>& built_values() {
  static const std::vector<BuiltValue> kValues = {
      {"", "thresholding", false},
      {"", "use_lu_lambdas", false},
      {"", "use_flow_sigmas", false},
      {"", "final_sigmas_type", "zero"},
      {"", "interpolation_type", "linear"},
      {"", "timestep_type", "discrete"},
      {"", "lambda_min_clipped", nullptr},
      {"", "sigma_min", nullptr},
      {"", "sigma_max", nullptr},
      {"DDPMScheduler", "variance_type", "fixed_small"},
      {"PNDMScheduler", "skip_prk_steps", true, false},
      {"LCMScheduler", "original_inference_steps", 50},
      {"LCMScheduler", "timestep_scaling", 10.0},
      // sampler_for tells the two algorithms apart. diffusers' third order of the stochastic one
      // has the other sign at its last term than k-diffusion's dpmpp_3m_sde.
      {"DPMSolverMultistepScheduler", "solver_order", 2},
      {"DPMSolverMultistepScheduler", "solver_type", "midpoint"},
      {"DPMSolverMultistepScheduler", "variance_type", nullptr},
      {"UniPCMultistepScheduler", "solver_order", 2},
      {"UniPCMultistepScheduler", "solver_type", "bh2"},
      {"UniPCMultistepScheduler", "predict_x0", true},
      {"UniPCMultistepScheduler", "lower_order_final", true},
      {"UniPCMultistepScheduler", "disable_corrector", json::array()},
      {"UniPCMultistepScheduler", "solver_p", nullptr},
      {"DEISMultistepScheduler", "solver_order", 2},
      {"DEISMultistepScheduler", "lower_order_final", true},
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
  check_json_depth(text, file);
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
  if constexpr (std::is_same_v<T, int64_t>) return whole_number(*found, file, key);
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
  for (const BuiltValue& value : built_values()) {
    if (!value.class_name.empty() && value.class_name != row.name) continue;
    const auto found = root.find(value.key);
    const json& actual = found == root.end() ? value.otherwise : *found;
    if (actual.is_null() || actual == value.built) continue;
    options.push_back(fmt::format("{} = {}", value.key, actual.dump()));
  }
  return options;
}

constexpr std::pair<Respacing, const char*> kRespacings[] = {
    {Respacing::karras, "use_karras_sigmas"},
    {Respacing::exponential, "use_exponential_sigmas"},
    {Respacing::beta, "use_beta_sigmas"},
};

Respacing respacing_of(const json& root, std::string_view file) {
  Respacing found = Respacing::none;
  for (const auto& [respacing, key] : kRespacings) {
    if (!value_or(root, key, false, file)) continue;
    EMULSION_CHECK(found == Respacing::none, format,
                   "[{}] expected at most one of use_karras_sigmas, use_exponential_sigmas and "
                   "use_beta_sigmas, got two",
                   file);
    found = respacing;
  }
  return found;
}

/// "dpmsolver++" and "sde-dpmsolver++" are two solvers here. Files of other classes may hold the
/// key, too: diffusers ignores it there.
std::string algorithm_of(const json& root, const ClassRow& row, std::string_view file) {
  if (row.name != "DPMSolverMultistepScheduler") return {};
  const auto algorithm = value_or<std::string>(root, "algorithm_type", "dpmsolver++", file);
  return algorithm == "deis" ? "dpmsolver++" : algorithm;  // as the class reads it
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
  if (row.respacing_option) config.options.respacing = respacing_of(root, file);
  config.algorithm = algorithm_of(root, row, file);
  config.not_built = not_built_in(root, row, file);
  return config;
}

std::string to_json(const SchedulerConfig& config) {
  const ClassRow& row = row_of(config.class_name);
  EMULSION_CHECK(
      is_diffusers(config.spacing), unsupported,
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
  if (row.respacing_option) {
    for (const auto& [respacing, key] : kRespacings) {
      root[key] = config.options.respacing == respacing;
    }
  }
  if (!config.algorithm.empty()) root["algorithm_type"] = config.algorithm;
  if (row.rescale_option) root["rescale_betas_zero_snr"] = config.noise.zero_terminal_snr;
  if (config.class_name == "PNDMScheduler") root["skip_prk_steps"] = true;
  return root.dump(2) + "\n";
}

const Sampler& sampler_for(const SchedulerConfig& config) {
  EMULSION_CHECK(config.not_built.empty(), unsupported,
                 "[scheduler config] {} with {} is not built; choose a solver with --sampler {}",
                 config.class_name, fmt::join(config.not_built, ", "), sampler_ids());
  if (config.algorithm == "sde-dpmsolver++") return find_sampler("dpmpp_2m_sde");
  EMULSION_CHECK(config.algorithm.empty() || config.algorithm == "dpmsolver++", unsupported,
                 "[scheduler config] {} with algorithm_type = \"{}\" is not built; choose a solver "
                 "with --sampler {}",
                 config.class_name, config.algorithm, sampler_ids());
  for (const Sampler& sampler : samplers()) {
    if (!config.class_name.empty() && sampler.diffusers_class == config.class_name) return sampler;
  }
  throw Error(
      ErrorCode::unsupported,
      fmt::format("[scheduler config] the solver {} is not built; choose one with --sampler {}",
                  config.class_name, sampler_ids()));
}

}  // namespace emulsion::diffusion
