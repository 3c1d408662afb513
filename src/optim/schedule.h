// Learning rate over a run, as a factor of the configured one.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

namespace emulsion::optim {

enum class LrSchedule { constant, linear, cosine, cosine_with_restarts, polynomial, rex };

constexpr auto enum_names(LrSchedule) {
  return std::to_array<std::pair<LrSchedule, const char*>>({{LrSchedule::constant, "constant"},
                                                            {LrSchedule::linear, "linear"},
                                                            {LrSchedule::cosine, "cosine"},
                                                            {LrSchedule::cosine_with_restarts, "cosine_with_restarts"},
                                                            {LrSchedule::polynomial, "polynomial"},
                                                            {LrSchedule::rex, "rex"}});
}

struct LrScheduleConfig {
  LrSchedule shape = LrSchedule::constant;
  int64_t warmup_steps = 0;
  double warmup_fraction = 0;
  double min_ratio = 0;
  int64_t cycles = 1;
  double power = 1;

  template <class V>
  void fields(V& v) {
    v("shape", shape, "How the learning rate falls after the warm-up.");
    v("warmup_steps", warmup_steps, "Steps over which the learning rate rises from 0.").min(0);
    v("warmup_fraction", warmup_fraction, "The same as a part of the run; set only one of the two.")
        .min(0)
        .max(1);
    v("min_ratio", min_ratio, "Where every falling shape ends, as a part of the learning rate.")
        .min(0)
        .max(1);
    v("cycles", cycles, "How often cosine_with_restarts falls.").min(1);
    v("power", power, "Of polynomial: 1 is linear, 2 falls steeply at first.").above(0);
  }
};

/// Factor of optimizer step `step` (from 0) in a run of `total` steps. With min_ratio 0 it is that
/// of diffusers' get_scheduler: step 0 of a warm-up is 0, and cosine and linear reach 0 at `total`. rex is 1 - p over
/// 1 - p / 2 of the progress p (Chen et al. 2021, arXiv:2107.04197): it stays high for longer than linear.
/// Throws: Error{config} if both kinds of warm-up are set.
double multiplier(const LrScheduleConfig& config, int64_t step, int64_t total);

}  // namespace emulsion::optim
