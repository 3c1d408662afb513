#include "diffusion/spacings.h"

#include <array>
#include <cmath>

#include "core/error.h"

namespace emulsion::diffusion {
namespace {

/// Evenly from 0 to 1; a single place is 0.
double place(int64_t i, int64_t count) {
  return count > 1 ? static_cast<double>(i) / static_cast<double>(count - 1) : 0;
}

using Table = std::array<double, 11>;
constexpr Table kStableDiffusion1 = {14.615, 6.475, 3.861, 2.697, 1.886, 1.396,
                                     0.963,  0.652, 0.399, 0.152, 0.029};
constexpr Table kSdxl = {14.615, 6.315, 3.771, 2.181, 1.342, 0.862,
                         0.555,  0.380, 0.234, 0.113, 0.029};

/// log(table) at a place from 0 to 1, linear in between.
double log_at(const Table& table, double place) {
  const double position = place * static_cast<double>(table.size() - 1);
  const auto low = std::min(static_cast<size_t>(position), table.size() - 2);
  const double w = position - static_cast<double>(low);
  return (1 - w) * std::log(table[low]) + w * std::log(table[low + 1]);
}

}  // namespace

std::vector<double> evenly_spaced(double last, int64_t count) {
  std::vector<double> values;
  const double step = count > 1 ? last / static_cast<double>(count - 1) : 0;
  for (int64_t i = 0; i + 1 < count; ++i) values.push_back(static_cast<double>(i) * step);
  values.push_back(last);
  return values;
}

std::vector<double> karras_sigmas(double low, double high, int64_t steps, double rho) {
  const double from = std::pow(high, 1 / rho), to = std::pow(low, 1 / rho);
  std::vector<double> sigmas;
  for (int64_t i = 0; i < steps; ++i) {
    sigmas.push_back(std::pow(from + place(i, steps) * (to - from), rho));
  }
  return sigmas;
}

std::vector<double> polyexponential_sigmas(double low, double high, int64_t steps, double rho) {
  std::vector<double> sigmas;
  for (int64_t i = 0; i < steps; ++i) {
    const double height = std::pow(1 - place(i, steps), rho);
    sigmas.push_back(std::exp(std::log(low) + height * std::log(high / low)));
  }
  return sigmas;
}

std::vector<double> beta_sigmas(double low, double high, int64_t steps) {
  constexpr double kShape = 0.6;
  std::vector<double> sigmas;
  for (int64_t i = 0; i < steps; ++i) {
    sigmas.push_back(low + (high - low) * beta_quantile(1 - place(i, steps), kShape, kShape));
  }
  return sigmas;
}

std::vector<double> align_your_steps_sigmas(const NoiseSchedule& schedule, int64_t steps,
                                            bool sdxl) {
  const Table& table = sdxl ? kSdxl : kStableDiffusion1;
  const double top = schedule.sigmas().back();
  EMULSION_CHECK(std::abs(top / table.front() - 1) < 0.01, unsupported,
                 "[sampler] align_your_steps: expected a noise schedule up to sigma {:.2f}, as of "
                 "Stable Diffusion 1 and XL, got one up to {:.2f}{}; choose another schedule",
                 table.front(), top,
                 schedule.config().zero_terminal_snr ? " (zero terminal SNR)" : "");
  std::vector<double> sigmas;  // of steps + 1 levels; sampling to 0 takes the place of the last
  for (int64_t i = 0; i < steps; ++i)
    sigmas.push_back(std::exp(log_at(table, place(i, steps + 1))));
  return sigmas;
}

std::vector<double> schedule_timesteps(int64_t total, SigmaSchedule spacing, int64_t steps) {
  const double last = static_cast<double>(total - 1);
  std::vector<double> values;  // descending
  switch (spacing) {
    case SigmaSchedule::normal:
      values = evenly_spaced(last, steps);
      std::reverse(values.begin(), values.end());
      return values;
    case SigmaSchedule::sgm_uniform:
      values = evenly_spaced(last, steps + 1);
      std::reverse(values.begin(), values.end());
      values.pop_back();
      return values;
    case SigmaSchedule::simple:
      for (int64_t i = 0; i < steps; ++i) {
        const double share = static_cast<double>(total) / static_cast<double>(steps);
        values.push_back(last - std::floor(static_cast<double>(i) * share));
      }
      return values;
    case SigmaSchedule::ddim_uniform:
      for (int64_t t = 1; t < total; t += total / steps) values.push_back(static_cast<double>(t));
      std::reverse(values.begin(), values.end());
      return values;
    default:
      throw Error(ErrorCode::internal, "[sampler] not a schedule of timesteps");
  }
}

}  // namespace emulsion::diffusion
