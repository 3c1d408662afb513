#include "diffusion/sampler.h"

#include <cmath>

#include "config/suggest.h"
#include "core/error.h"
#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion {

namespace {

using End = Layout::End;
using Rounding = Layout::Rounding;

// Layouts of diffusers' classes, by what they share. Those that think in timesteps:
constexpr Layout kTimesteps = {.whole_timesteps = true,
                               .scaled_start = true,
                               .karras = Rounding::nearest,
                               .respaced = Rounding::nearest};
constexpr Layout ending_at(Layout layout, End end) {
  layout.end = end;
  return layout;
}
// Those that grew from k-diffusion; the KDPM2 ones round the timesteps of Karras' sigmas.
constexpr Layout kSigmas = {};
constexpr Layout kKdpm2 = {.karras = Rounding::nearest};
// Multistep solvers. They cut timesteps to whole ones where they do not round them.
constexpr Layout kMultistep = {.whole_timesteps = true,
                               .drops_last = true,
                               .scaled_start = true,
                               .whole_range = true,
                               .karras = Rounding::nearest,
                               .respaced = Rounding::down};
// LCM was distilled on 50 timesteps (original_inference_steps).
constexpr Layout kLcm = {.whole_timesteps = true,
                         .scaled_start = true,
                         .karras = Rounding::nearest,
                         .respaced = Rounding::nearest,
                         .grid = 50};

}  // namespace

const std::vector<Sampler>& samplers() {
  using namespace solvers;
  static const std::vector<Sampler> kSamplers = {
      // id, function, order, needs_noise, diffusers_class, layout[, restarts]
      {"euler", euler, 1, false, "EulerDiscreteScheduler", kSigmas},
      {"euler_ancestral", euler_ancestral, 1, true, "EulerAncestralDiscreteScheduler", kSigmas},
      {"heun", heun, 2, false, "HeunDiscreteScheduler", kSigmas},
      {"dpm_2", dpm_2, 2, false, "KDPM2DiscreteScheduler", kKdpm2},
      {"dpm_2_ancestral", dpm_2_ancestral, 1, true, "KDPM2AncestralDiscreteScheduler", kKdpm2},
      {"lms", lms, 4, false, "LMSDiscreteScheduler", kSigmas},
      {"ddim", ddim, 1, false, "DDIMScheduler", ending_at(kTimesteps, End::alpha_option)},
      {"ddpm", ddpm, 1, true, "DDPMScheduler", kTimesteps},
      {"plms", plms, 2, false, "PNDMScheduler", ending_at(kTimesteps, End::alpha_option)},
      {"dpmpp_2m", dpmpp_2m, 2, false, "DPMSolverMultistepScheduler", kMultistep},
      {"dpmpp_2m_sde", dpmpp_2m_sde, 1, true, "DPMSolverMultistepScheduler", kMultistep},
      {"dpmpp_3m_sde", dpmpp_3m_sde, 1, true, "", kSigmas},
      {"dpmpp_sde", dpmpp_sde, 1, true, "DPMSolverSDEScheduler", kSigmas},
      {"dpmpp_2s_ancestral", dpmpp_2s_ancestral, 1, true, "", kSigmas},
      {"uni_pc", uni_pc, 3, false, "UniPCMultistepScheduler", kMultistep},
      {"lcm", lcm, 1, true, "LCMScheduler", kLcm},
      {"deis", deis, 2, false, "DEISMultistepScheduler", ending_at(kMultistep, End::smallest)},
      {"restart", restart, 2, true, "", kSigmas, /*restarts=*/true},
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
