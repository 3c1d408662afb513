#include "diffusion/objective_options.h"

#include <fmt/ranges.h>

#include "core/error.h"
#include "diffusion/denoising_loss.h"

namespace emulsion::diffusion {
namespace {

/// Collects what is wrong, to say all of it at once.
struct Rules {
  std::vector<std::string> problems;
  void operator()(bool holds, const std::string& problem) {
    if (!holds) problems.push_back(problem);
  }
  void settle() const { EMULSION_CHECK(problems.empty(), config, "{}", fmt::join(problems, "\n")); }
};

}  // namespace

void validate(const ObjectiveConfig& config) {
  Rules rule;
  rule(config.timestep_bias == 0 || config.timestep_density == TimestepDensity::flat,
       "[objective.timestep_bias] is for objective.timestep_density = \"flat\"; move logit_mean "
       "instead");
  rule(config.max_timestep == 0 || config.min_timestep < config.max_timestep,
       fmt::format("[objective.min_timestep] expected less than objective.max_timestep, {}, got {}",
                   config.max_timestep, config.min_timestep));
  rule(!config.noise_offset_random || config.noise_offset > 0,
       "[objective.noise_offset_random] expected objective.noise_offset above 0, got 0; "
       "set it, 0.05 is usual");
  rule(config.noise_offset_adaptive == 0 || config.noise_offset > 0,
       "[objective.noise_offset_adaptive] expected objective.noise_offset above 0, got 0; "
       "set it, 0.05 is usual");
  rule(!config.input_perturbation_random || config.input_perturbation > 0,
       "[objective.input_perturbation_random] expected objective.input_perturbation above 0, got "
       "0; set it, 0.1 is usual");
  const bool turns =
      config.loss == PointwiseLoss::huber || config.loss == PointwiseLoss::smooth_l1;
  rule(turns || (config.huber_schedule == HuberSchedule::constant && config.huber_scale == 1),
       "[objective.huber_schedule] and objective.huber_scale expected objective.loss = \"huber\" "
       "or \"smooth_l1\", got another loss");
  rule(!config.scale_v_loss || config.v_like_loss == 0,
       "[objective.scale_v_loss] is for v prediction, objective.v_like_loss for epsilon; keep one");
  rule(config.weighting != LossWeighting::p2 || config.weight_for_v != WeightForV::kohya,
       "[objective.weight_for_v] = \"kohya\" has no objective.weighting = \"p2\"; use "
       "\"converted\" or \"onetrainer\"");
  rule.settle();
}

void validate(const ObjectiveConfig& config, Prediction prediction, const NoiseSchedule& schedule) {
  Rules rule;
  const int64_t size = schedule.size();
  rule(config.min_timestep < size && config.max_timestep <= size,
       fmt::format("[objective.min_timestep] and objective.max_timestep expected at most the {} "
                   "noise.timesteps of the model, got {} and {}",
                   size, config.min_timestep, config.max_timestep));
  rule(!config.scale_v_loss || prediction == Prediction::v_prediction,
       "[objective.scale_v_loss] expected a model with prediction = \"v_prediction\"; set it to "
       "false");
  rule(config.v_like_loss == 0 || prediction == Prediction::epsilon,
       "[objective.v_like_loss] expected a model with prediction = \"epsilon\"; set it to 0");
  rule.settle();
  const int64_t end = config.max_timestep > 0 ? config.max_timestep : size;
  const Tensor snr = schedule.snr(at::arange(config.min_timestep, end, at::kLong));
  rule(loss_weight(config, prediction, snr).isfinite().all().item<bool>(),
       "[objective.weighting] and objective.v_like_loss give the last noise level of "
       "noise.zero_terminal_snr an infinite weight; use another weighting, no v_like_loss, a "
       "lower max_timestep, or a model with prediction = \"v_prediction\"");
  rule.settle();
}

}  // namespace emulsion::diffusion
