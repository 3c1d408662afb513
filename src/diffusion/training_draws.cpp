#include "diffusion/training_draws.h"

#include "core/error.h"

namespace emulsion::diffusion {
namespace {

int64_t draw_uniform(Stream& stream, int64_t, int64_t, int64_t timesteps) {
  return stream.below(timesteps);
}

int64_t draw_stratified(Stream& stream, int64_t index, int64_t strata, int64_t timesteps) {
  const double part = static_cast<double>(index % strata) + stream.uniform();
  const double place = part / static_cast<double>(strata) * static_cast<double>(timesteps);
  return std::min(static_cast<int64_t>(place), timesteps - 1);
}

}  // namespace

Tensor sample_timesteps(TimestepSampling kind, const Rng& rng, int64_t step, int64_t first_index,
                        int64_t batch, int64_t strata, int64_t timesteps) {
  EMULSION_CHECK(batch > 0 && strata > 0 && timesteps > 0, internal,
                 "[objective] expected positive batch, strata and timesteps, got {}, {} and {}",
                 batch, strata, timesteps);
  const auto draw = kind == TimestepSampling::uniform ? draw_uniform : draw_stratified;
  Tensor drawn = at::empty({batch}, at::kLong);
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t index = first_index + b;
    Stream stream = rng.stream(Purpose::timestep, step, index);
    drawn.mutable_data_ptr<int64_t>()[b] = draw(stream, index, strata, timesteps);
  }
  return drawn;
}

}  // namespace emulsion::diffusion
