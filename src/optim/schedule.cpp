#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numbers>
#include <string_view>

#include "core/error.h"

namespace emulsion::optim {
namespace {

/// Where a run stands after its warm-up.
struct Place {
  double progress;  // in [0, 1]
  int64_t step;     // of the whole run, from 0
  int64_t warmup;   // steps
};

using Shape = double (*)(const LrScheduleConfig& config, const Place& at);

double falling_cosine(double progress) { return 0.5 * (1 + std::cos(std::numbers::pi * progress)); }

double constant(const LrScheduleConfig&, const Place&) { return 1; }
double linear(const LrScheduleConfig&, const Place& at) { return 1 - at.progress; }
double cosine(const LrScheduleConfig&, const Place& at) { return falling_cosine(at.progress); }
double cosine_with_restarts(const LrScheduleConfig& config, const Place& at) {
  const double cycle = at.progress * static_cast<double>(config.cycles);
  return at.progress >= 1 ? 0 : falling_cosine(cycle - std::floor(cycle));
}
double polynomial(const LrScheduleConfig& config, const Place& at) { return std::pow(1 - at.progress, config.power); }
double rex(const LrScheduleConfig&, const Place& at) { return (1 - at.progress) / (1 - 0.5 * at.progress); }

double inverse_sqrt(const LrScheduleConfig&, const Place& at) {
  constexpr double kWithoutWarmup = 10'000;
  const double unit = at.warmup > 0 ? static_cast<double>(at.warmup) : kWithoutWarmup;
  return 1 / std::sqrt(1 + static_cast<double>(at.step - at.warmup) / unit);
}

double warmup_stable_decay(const LrScheduleConfig& config, const Place& at) {
  const double fallen = std::max(0.0, (at.progress - (1 - config.decay_fraction)) / config.decay_fraction);
  switch (config.decay_shape) {
    case DecayShape::linear: return 1 - fallen;
    case DecayShape::cosine: return falling_cosine(fallen);
    default: return 1 - std::sqrt(fallen);
  }
}

/// AUTOMATIC1111's "0.005:100, 1e-3:1000, 1e-5": a rate is valid up to and with its step, counted from 1.
double piecewise(const LrScheduleConfig& config, const Place& at) {
  const auto refused = [&](std::string_view part) {
    return Error(ErrorCode::config,
                 fmt::format("[lr schedule] rates: expected \"RATE:STEP, RATE:STEP, RATE\" with rising steps, got '{}' "
                             "in \"{}\"",
                             part, config.rates));
  };
  std::string_view rest = config.rates;
  int64_t before = 0;
  while (true) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const bool last = comma == rest.size();
    const std::string part(rest.substr(0, comma));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    char* end = nullptr;
    const double rate = std::strtod(part.c_str(), &end);
    const bool has_rate = end != part.c_str() && rate >= 0 && std::isfinite(rate);
    int64_t until = std::numeric_limits<int64_t>::max();
    if (*end == ':') {
      const char* const from = end + 1;
      until = std::strtoll(from, &end, 10);
      if (end == from) throw refused(part);
    }
    while (*end == ' ') ++end;
    if (!has_rate || *end != 0 || until <= before) throw refused(part);
    if (at.step + 1 <= until || last) return rate;
    before = until;
  }
}

constexpr std::pair<LrSchedule, Shape> kShapes[] = {{LrSchedule::constant, constant},
                                                    {LrSchedule::linear, linear},
                                                    {LrSchedule::cosine, cosine},
                                                    {LrSchedule::cosine_with_restarts, cosine_with_restarts},
                                                    {LrSchedule::polynomial, polynomial},
                                                    {LrSchedule::rex, rex},
                                                    {LrSchedule::inverse_sqrt, inverse_sqrt},
                                                    {LrSchedule::warmup_stable_decay, warmup_stable_decay},
                                                    {LrSchedule::piecewise, piecewise}};

Shape shape_of(LrSchedule schedule) {
  for (const auto& [candidate, shape] : kShapes) {
    if (candidate == schedule) return shape;
  }
  throw Error(ErrorCode::internal, "[lr schedule] unknown shape");
}

int64_t warmup_of(const LrScheduleConfig& config, int64_t total) {
  EMULSION_CHECK(config.warmup_steps == 0 || config.warmup_fraction == 0, config,
                 "[lr schedule] expected warmup_steps or warmup_fraction, got both ({} and {})",
                 config.warmup_steps, config.warmup_fraction);
  if (config.warmup_fraction == 0) return config.warmup_steps;
  return std::llround(config.warmup_fraction * static_cast<double>(total));
}

}  // namespace

double multiplier(const LrScheduleConfig& config, int64_t step, int64_t total) {
  const int64_t warmup = warmup_of(config, total);
  if (step < warmup) return static_cast<double>(step) / static_cast<double>(warmup);
  const auto length = static_cast<double>(std::max<int64_t>(1, total - warmup));
  const double progress = std::min(1.0, static_cast<double>(step - warmup) / length);
  return config.min_ratio + (1 - config.min_ratio) * shape_of(config.shape)(config, {progress, step, warmup});
}

bool agree(const LrScheduleConfig& config, int64_t steps, int64_t total, int64_t other) {
  if (total == other) return true;
  for (int64_t step = 0; step < steps; ++step) {
    if (multiplier(config, step, total) != multiplier(config, step, other)) return false;
  }
  return true;
}

}  // namespace emulsion::optim
