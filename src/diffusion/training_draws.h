// What chance decides in denoising training: the timestep and the noise of every sample.
#pragma once

#include "core/random.h"
#include "core/tensor.h"
#include "diffusion/objective_options.h"

namespace emulsion::diffusion {

/// Timesteps of the samples first_index .. first_index + batch - 1 of optimizer step `step`.
///
/// Sample i depends only on (seed, step, i) and, if stratified, on `strata`: it is drawn from the
/// (i mod strata)-th of `strata` equal parts of 0..T-1. Pass the number of samples of the whole
/// optimizer step, so that gradient accumulation and several processes change nothing.
///
/// Returns: [batch], int64, in 0..timesteps-1.
Tensor sample_timesteps(TimestepSampling kind, const Rng& rng, int64_t step, int64_t first_index,
                        int64_t batch, int64_t strata, int64_t timesteps);

}  // namespace emulsion::diffusion
