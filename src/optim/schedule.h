// Learning rate over a run, as a factor of the configured one.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

namespace emulsion::optim {

enum class LrSchedule { constant, linear, cosine };

constexpr auto enum_names(LrSchedule) {
  return std::to_array<std::pair<LrSchedule, const char*>>({{LrSchedule::constant, "constant"},
                                                            {LrSchedule::linear, "linear"},
                                                            {LrSchedule::cosine, "cosine"}});
}

struct LrScheduleConfig {
  LrSchedule shape = LrSchedule::constant;
  int64_t warmup_steps = 0;
  double warmup_fraction = 0;
  double min_ratio = 0;

  template <class V>
  void fields(V& v) {
    v("shape", shape, "How the learning rate falls after the warm-up.");
    v("warmup_steps", warmup_steps, "Steps over which the learning rate rises from 0.").min(0);
    v("warmup_fraction", warmup_fraction, "The same as a part of the run; set only one of the two.")
        .min(0)
        .max(1);
    v("min_ratio", min_ratio, "Where linear and cosine end, as a part of the learning rate.")
        .min(0)
        .max(1);
  }
};

/// Factor of optimizer step `step` (from 0) in a run of `total` steps. With min_ratio 0 it is that
/// of diffusers' get_scheduler: step 0 of a warm-up is 0, and cosine and linear reach 0 at `total`.
/// Throws: Error{config} if both kinds of warm-up are set.
double multiplier(const LrScheduleConfig& config, int64_t step, int64_t total);

}  // namespace emulsion::optim
