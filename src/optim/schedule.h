// Learning rate over a run, as a factor of the configured one.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>

namespace emulsion::optim {

enum class LrSchedule {
  constant,
  linear,
  cosine,
  cosine_with_restarts,
  polynomial,
  rex,
  inverse_sqrt,
  warmup_stable_decay,
  piecewise
};

constexpr auto enum_names(LrSchedule) {
  return std::to_array<std::pair<LrSchedule, const char*>>({{LrSchedule::constant, "constant"},
                                                            {LrSchedule::linear, "linear"},
                                                            {LrSchedule::cosine, "cosine"},
                                                            {LrSchedule::cosine_with_restarts, "cosine_with_restarts"},
                                                            {LrSchedule::polynomial, "polynomial"},
                                                            {LrSchedule::rex, "rex"},
                                                            {LrSchedule::inverse_sqrt, "inverse_sqrt"},
                                                            {LrSchedule::warmup_stable_decay, "warmup_stable_decay"},
                                                            {LrSchedule::piecewise, "piecewise"}});
}

/// How warmup_stable_decay falls in its last part.
enum class DecayShape { linear, cosine, sqrt };

constexpr auto enum_names(DecayShape) {
  return std::to_array<std::pair<DecayShape, const char*>>(
      {{DecayShape::linear, "linear"}, {DecayShape::cosine, "cosine"}, {DecayShape::sqrt, "sqrt"}});
}

struct LrScheduleConfig {
  LrSchedule shape = LrSchedule::constant;
  int64_t warmup_steps = 0;
  double warmup_fraction = 0;
  double min_ratio = 0;
  int64_t cycles = 1;
  double power = 1;
  double decay_fraction = 0.2;
  DecayShape decay_shape = DecayShape::sqrt;
  std::string rates = {};

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
    v("decay_fraction", decay_fraction, "The last part of the steps after the warm-up, in which warmup_stable_decay falls.")
        .above(0)
        .max(1);
    v("decay_shape", decay_shape, "How it falls there: linear, cosine, or by 1 - sqrt (Haegele et al. 2024, arXiv:2405.18392).");
    v("rates", rates,
      "Of piecewise: \"RATE:STEP, RATE:STEP, RATE\", each a part of the learning rate and valid up to its step; with lr = 1 the "
      "rates themselves, as AUTOMATIC1111 writes them.");
  }
};

/// Factor of optimizer step `step` (from 0) in a run of `total` steps. With min_ratio 0 it is that
/// of diffusers' get_scheduler: step 0 of a warm-up is 0, and cosine and linear reach 0 at `total`. rex is 1 - p over
/// 1 - p / 2 of the progress p (Chen et al. 2021, arXiv:2107.04197): it stays high for longer than linear. inverse_sqrt and
/// warmup_stable_decay are those of transformers; the former counts in units of its warm-up, or of 10,000 steps without one.
/// Throws: Error{config} if both kinds of warm-up are set, or `rates` cannot be read.
double multiplier(const LrScheduleConfig& config, int64_t step, int64_t total);

/// Whether the first `steps` steps have the same factors in a run of `total` steps as in one of `other`.
bool agree(const LrScheduleConfig& config, int64_t steps, int64_t total, int64_t other);

}  // namespace emulsion::optim
