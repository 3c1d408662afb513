// The cases of samplers.safetensors, for the tests of plans and of samplers.
#pragma once

#include <string>
#include <vector>

#include "config/enum_names.h"
#include "core/error.h"
#include "diffusion/sampler.h"
#include "io/safetensors.h"
#include "support/support.h"

namespace emulsion::diffusion {

/// The samplers that diffusers has: as (id, respacing) in the golden file.
struct GoldenCase {
  std::string sampler, respacing;  // respacing: "", "karras", "exponential", "beta", "zero_snr"
  SigmaSchedule spacing;
  int64_t steps;
  Prediction prediction;

  std::string plan_key(const std::string& what) const {
    return fmt::format("{}{}{}.{}.{}.{}", sampler, respacing.empty() ? "" : "_", respacing,
                       config::name_of(spacing), steps, what);
  }
  std::string key(const std::string& what) const {
    return plan_key((prediction == Prediction::v_prediction ? "v." : "eps.") + what);
  }
};

inline const io::SafetensorsFile& golden_file() {
  static const auto kFile = io::SafetensorsFile::open(test::golden("samplers.safetensors"));
  return kFile;
}

/// Every case of the golden file.
inline std::vector<GoldenCase> golden_cases() {
  std::vector<GoldenCase> cases;
  for (const Sampler& sampler : samplers()) {
    for (const char* respacing : {"", "karras", "exponential", "beta", "zero_snr"}) {
      for (const auto spacing :
           {SigmaSchedule::leading, SigmaSchedule::linspace, SigmaSchedule::trailing}) {
        for (const int64_t steps : {5, 20}) {
          for (const auto prediction : {Prediction::epsilon, Prediction::v_prediction}) {
            const GoldenCase c{std::string(sampler.id), respacing, spacing, steps, prediction};
            if (golden_file().contains(c.key("end"))) cases.push_back(c);
          }
        }
      }
    }
  }
  return cases;
}

inline NoiseSchedule schedule_of(const GoldenCase& c) {
  return NoiseSchedule({.zero_terminal_snr = c.respacing == "zero_snr"});
}

inline SamplingPlan plan_of(const GoldenCase& c) {
  SchedulerOptions options{.steps_offset = 1, .set_alpha_to_one = false};
  if (c.respacing == "karras") options.respacing = Respacing::karras;
  if (c.respacing == "exponential") options.respacing = Respacing::exponential;
  if (c.respacing == "beta") options.respacing = Respacing::beta;
  return make_plan(schedule_of(c), find_sampler(c.sampler), c.spacing, c.steps, options);
}

}  // namespace emulsion::diffusion
