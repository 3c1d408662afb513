#include "diffusion/sampler.h"

#include <cmath>

#include "config/suggest.h"
#include "core/error.h"
#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion {

const std::vector<Sampler>& samplers() {
  static const std::vector<Sampler> kSamplers = {
      // id, function, order, needs_noise, diffusers_class,
      //     whole_timesteps, drops_last, scaled_start, alpha_option
      {"ddim", solvers::ddim, 1, false, "DDIMScheduler",  //
       true, false, true, true},
      {"euler", solvers::euler, 1, false, "EulerDiscreteScheduler",  //
       false, false, false, false},
      {"euler_ancestral", solvers::euler_ancestral, 1, true, "EulerAncestralDiscreteScheduler",  //
       false, false, false, false},
      {"dpmpp_2m", solvers::dpmpp_2m, 2, false, "DPMSolverMultistepScheduler",  //
       true, true, true, false},
  };
  return kSamplers;
}

const Sampler& find_sampler(std::string_view id) {
  std::vector<std::string> ids;
  for (const Sampler& sampler : samplers()) {
    if (sampler.id == id) return sampler;
    ids.emplace_back(sampler.id);
  }
  throw Error(ErrorCode::config,
              fmt::format("[sampler] expected one of {}, got '{}'{}", fmt::join(ids, ", "), id,
                          config::did_you_mean(id, ids)));
}

DenoiseFn denoiser(Prediction prediction, NetworkFn network) {
  return
      [prediction, network = std::move(network)](const Tensor& x, double sigma, double timestep) {
        const double alpha = 1 / std::sqrt(1 + sigma * sigma);
        const Coefficients c{at::full({1, 1, 1, 1}, alpha, x.options()),
                             at::full({1, 1, 1, 1}, alpha * sigma, x.options())};
        const Tensor input = x * alpha;
        return to_x0(prediction, network(input, timestep), input, c);
      };
}

Tensor sample(const Sampler& sampler, const SamplingPlan& plan, const Tensor& start,
              const DenoiseFn& denoise, const NoiseFn& noise, const ProgressFn& progress) {
  return sample_from(sampler, plan, start * plan.init_scale, denoise, noise, progress);
}

Tensor sample_from(const Sampler& sampler, const SamplingPlan& plan, const Tensor& x,
                   const DenoiseFn& denoise, const NoiseFn& noise, const ProgressFn& progress) {
  EMULSION_CHECK(plan.sigmas.size() == plan.timesteps.size() + 1, internal,
                 "[sampler] expected {} sigmas, got {}", plan.timesteps.size() + 1,
                 plan.sigmas.size());
  EMULSION_CHECK(noise || !sampler.needs_noise, internal,
                 "[sampler] expected a source of noise for {}, got none", sampler.id);
  const Tensor end = sampler.function(plan, x, denoise, noise, progress);
  const double sigma = plan.sigmas.back();
  return sigma > 0 ? end / std::sqrt(1 + sigma * sigma) : end;
}

}  // namespace emulsion::diffusion
