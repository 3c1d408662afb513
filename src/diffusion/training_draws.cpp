#include "diffusion/training_draws.h"

#include <cmath>
#include <span>

#include "core/error.h"

namespace emulsion::diffusion {
namespace {

constexpr uint64_t kWholeRun = ~uint64_t{0};  // in place of step and index

uint64_t reversed(uint64_t bits) {
  uint64_t result = 0;
  for (int i = 0; i < 64; ++i, bits >>= 1) result = result << 1 | (bits & 1);
  return result;
}

/// The number-th of a sequence that fills [0, 1) evenly, shifted for the run.
double sobol(const Rng& rng, int64_t number) {
  Stream stream = rng.stream(Purpose::timestep, kWholeRun, kWholeRun);
  const uint64_t high = stream.next(), low = stream.next();
  const uint64_t digits = reversed(static_cast<uint64_t>(number)) ^ (high << 32 | low);
  return static_cast<double>(digits >> 11) * 0x1.0p-53;
}

/// Where in [0, 1) the share `u` of the density lies below.
double quantile(const ObjectiveConfig& config, double u) {
  if (config.timestep_density == TimestepDensity::logit_normal) {
    const auto normal = at::special_ndtri(at::scalar_tensor(u, at::kDouble)).item<double>();
    return 1 / (1 + std::exp(-(config.logit_mean + config.logit_std * normal)));
  }
  const double bias = config.timestep_bias;
  if (bias > 0) return std::pow(u, 1 / (1 + bias));
  if (bias < 0) return 1 - std::pow(1 - u, 1 / (1 - bias));
  return u;
}

/// A timestep in 0..range-1.
int64_t draw_timestep(const ObjectiveConfig& config, const Rng& rng, int64_t step, int64_t index,
                      int64_t strata, int64_t range) {
  Stream stream = rng.stream(Purpose::timestep, step, index);
  const bool flat = config.timestep_density == TimestepDensity::flat && config.timestep_bias == 0;
  double u = 0;
  switch (config.timestep_sampling) {
    case TimestepSampling::uniform:
      if (flat) return stream.below(range);
      u = stream.uniform();
      break;
    case TimestepSampling::stratified:
      u = (static_cast<double>(index % strata) + stream.uniform()) / static_cast<double>(strata);
      break;
    case TimestepSampling::sobol:
      u = sobol(rng, step * strata + index);
      break;
  }
  const double place = quantile(config, u) * static_cast<double>(range);
  return std::min(static_cast<int64_t>(place), range - 1);
}

/// A number in [0, 1) of a draw; index 1, beside the normal numbers of index 0.
double uniform_of(const Rng& rng, Purpose purpose, int64_t draw) {
  return rng.stream(purpose, static_cast<uint64_t>(draw), 1).uniform();
}

/// Added to noise [C,h,w]: [C,1,1].
Tensor offset_of(const ObjectiveConfig& config, const Rng& rng, int64_t draw,
                 const Tensor& latent) {
  double strength = config.noise_offset;
  if (config.noise_offset_random) strength *= uniform_of(rng, Purpose::noise_offset, draw);
  const Tensor colour =
      rng.normal({latent.size(0), 1, 1}, Purpose::noise_offset, static_cast<uint64_t>(draw));
  if (config.noise_offset_adaptive == 0) return strength * colour;
  const Tensor mean = latent.to(at::kFloat).mean({1, 2}, true).abs();
  return (strength + config.noise_offset_adaptive * mean).clamp_min(0) * colour;
}

/// Standard deviation of all values, added up in one order whatever the number of threads.
double standard_deviation(const Tensor& values) {
  const Tensor all = values.contiguous();
  const std::span<const float> numbers(all.const_data_ptr<float>(),
                                       static_cast<size_t>(all.numel()));
  double sum = 0, squares = 0;
  for (const float number : numbers) sum += number;
  const double mean = sum / static_cast<double>(numbers.size());
  for (const float number : numbers) squares += (number - mean) * (number - mean);
  return std::sqrt(squares / static_cast<double>(numbers.size() - 1));
}

Tensor with_pyramid(const ObjectiveConfig& config, const Rng& rng, int64_t draw,
                    const Tensor& noise) {
  const int64_t channels = noise.size(0), height = noise.size(1), width = noise.size(2);
  Stream stream = rng.stream(Purpose::pyramid, static_cast<uint64_t>(draw));
  Tensor sum = noise;
  for (int64_t i = 0; i < config.pyramid_iterations; ++i) {
    const auto power = static_cast<double>(i);
    const double ratio = std::pow(2 + 2 * stream.uniform(), power);
    const auto part = [&](int64_t side) {
      return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(side) / ratio));
    };
    const int64_t h = part(height), w = part(width);
    const Tensor coarse = rng.normal({1, channels, h, w}, Purpose::pyramid,
                                     static_cast<uint64_t>(draw), static_cast<uint64_t>(i + 1));
    const Tensor grown = at::upsample_bilinear2d(coarse, {height, width}, /*align_corners=*/false);
    sum = sum + std::pow(config.pyramid_discount, power) * grown.squeeze(0);
    if (h == 1 || w == 1) break;
  }
  return sum / standard_deviation(sum);
}

}  // namespace

Tensor sample_timesteps(const ObjectiveConfig& config, const Rng& rng, int64_t step,
                        int64_t first_index, int64_t batch, int64_t strata, int64_t timesteps) {
  const int64_t first = config.min_timestep;
  const int64_t range = (config.max_timestep > 0 ? config.max_timestep : timesteps) - first;
  EMULSION_CHECK(batch > 0 && strata > 0 && range > 0, internal,
                 "[objective] expected positive batch, strata and timesteps, got {}, {} and {}",
                 batch, strata, range);
  Tensor drawn = at::empty({batch}, at::kLong);
  for (int64_t b = 0; b < batch; ++b) {
    drawn.mutable_data_ptr<int64_t>()[b] =
        first + draw_timestep(config, rng, step, first_index + b, strata, range);
  }
  return drawn;
}

Tensor training_noise(const ObjectiveConfig& config, const Rng& rng, int64_t draw,
                      const Tensor& latent) {
  Tensor noise = rng.normal(latent.sizes(), Purpose::noise, static_cast<uint64_t>(draw));
  if (config.noise_offset > 0) noise = noise + offset_of(config, rng, draw, latent);
  if (config.pyramid_iterations > 0) noise = with_pyramid(config, rng, draw, noise);
  return noise;
}

Tensor input_perturbation(const ObjectiveConfig& config, const Rng& rng, int64_t draw,
                          at::IntArrayRef shape) {
  if (config.input_perturbation == 0) return {};
  double strength = config.input_perturbation;
  if (config.input_perturbation_random) strength *= uniform_of(rng, Purpose::perturbation, draw);
  return strength * rng.normal(shape, Purpose::perturbation, static_cast<uint64_t>(draw));
}

}  // namespace emulsion::diffusion
