// The solvers' functions; samplers() is the table that names them. Only sampler.cpp includes this.
#pragma once

#include "diffusion/sampler.h"

namespace emulsion::diffusion::solvers {

Tensor ddim(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn& noise,
            const ProgressFn& progress);
Tensor euler(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn& noise,
             const ProgressFn& progress);
Tensor euler_ancestral(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise,
                       const NoiseFn& noise, const ProgressFn& progress);
Tensor dpmpp_2m(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn& noise,
                const ProgressFn& progress);

}  // namespace emulsion::diffusion::solvers
