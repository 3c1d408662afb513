#include "optim/schedule.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace emulsion::optim {
namespace {

/// From 1 at progress 0 to 0 at progress 1.
using Shape = double (*)(const LrScheduleConfig& config, double progress);

double constant(const LrScheduleConfig&, double) { return 1; }
double linear(const LrScheduleConfig&, double progress) { return 1 - progress; }
double cosine(const LrScheduleConfig&, double progress) { return 0.5 * (1 + std::cos(std::numbers::pi * progress)); }
double cosine_with_restarts(const LrScheduleConfig& config, double progress) {
  const double cycle = progress * static_cast<double>(config.cycles);
  return progress >= 1 ? 0 : cosine(config, cycle - std::floor(cycle));
}
double polynomial(const LrScheduleConfig& config, double progress) { return std::pow(1 - progress, config.power); }
double rex(const LrScheduleConfig&, double progress) { return (1 - progress) / (1 - 0.5 * progress); }

constexpr std::pair<LrSchedule, Shape> kShapes[] = {
    {LrSchedule::constant, constant}, {LrSchedule::linear, linear}, {LrSchedule::cosine, cosine},
    {LrSchedule::cosine_with_restarts, cosine_with_restarts}, {LrSchedule::polynomial, polynomial}, {LrSchedule::rex, rex}};

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
  return config.min_ratio + (1 - config.min_ratio) * shape_of(config.shape)(config, progress);
}

}  // namespace emulsion::optim
