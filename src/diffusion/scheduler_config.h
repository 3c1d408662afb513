// scheduler_config.json of a diffusers model folder.
//
// A folder that is only trained on needs its noise schedule and prediction; these are always read.
// What matters to sampling alone is judged by sampler_for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "diffusion/noise_schedule.h"
#include "diffusion/prediction.h"
#include "diffusion/sampler.h"

namespace emulsion::diffusion {

/// The defaults are the scheduler of Stable Diffusion 1 as we write it.
struct SchedulerConfig {
  std::string class_name = "DDIMScheduler";  // "_class_name"
  NoiseScheduleConfig noise;
  Prediction prediction = Prediction::epsilon;
  SigmaSchedule spacing = SigmaSchedule::leading;
  SchedulerOptions options = {.steps_offset = 1, .set_alpha_to_one = false};
  /// "algorithm_type" of a DPMSolverMultistepScheduler; empty for all others.
  std::string algorithm;
  /// Options that would change a sample and are not built, as "clip_sample = true".
  std::vector<std::string> not_built;
};

/// Reads a scheduler_config.json; what it leaves out has the default of the diffusers class. `file`
/// is for messages. Throws: Error{format} if it is not such a file; Error{unsupported} for a noise
/// schedule or prediction that is not built.
SchedulerConfig parse_scheduler_config(std::string_view json, std::string_view file);

/// The JSON text that diffusers' class of that name loads; options the class lacks are left out.
std::string to_json(const SchedulerConfig& config);

/// The solver that samples as the diffusers class does. Throws: Error{unsupported} naming the class
/// or the option that is not built.
const Sampler& sampler_for(const SchedulerConfig& config);

}  // namespace emulsion::diffusion
