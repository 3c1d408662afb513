#include "generate/generate.h"

#include "config/enum_names.h"
#include "core/error.h"
#include "core/stop.h"
#include "generate/prompt_plan.h"

namespace emulsion::generate {
namespace {

using models::Model;

std::vector<int64_t> latent_shape(const Model& model, const Request& full) {
  const models::VaeConfig& vae = model.vae->net.config();
  return {vae.latent_channels, full.height / vae.factor(), full.width / vae.factor()};
}

}  // namespace

Request resolve(const Request& request, const Model& model) {
  Request full = request;
  const int64_t factor = model.need_vae("drawing").config().factor();
  const int64_t side = model.need_unet("drawing").config().sample_size * factor;
  if (full.width == 0) full.width = side;
  if (full.height == 0) full.height = side;
  EMULSION_CHECK(full.width > 0 && full.height > 0 && full.width % factor == 0 && full.height % factor == 0, config,
                 "[generate] size {}x{}: expected sides divisible by {}", full.width, full.height, factor);
  EMULSION_CHECK(!full.prompts.empty(), config, "[generate] expected at least one prompt, got none");
  if (full.sampler.empty()) full.sampler = diffusion::sampler_for(model.scheduler).id;
  if (full.schedule.empty()) full.schedule = config::name_of(model.scheduler.spacing);
  diffusion::find_sampler(full.sampler);
  config::value_of<diffusion::SigmaSchedule>(full.schedule);
  if (full.init_latents.defined()) {
    std::vector<int64_t> expected = latent_shape(model, full);
    expected.insert(expected.begin(), static_cast<int64_t>(full.prompts.size()));
    EMULSION_CHECK(full.init_latents.sizes() == at::IntArrayRef(expected), shape,
                   "[generate] initial latents: expected [{}], got [{}]", fmt::join(expected, ", "),
                   fmt::join(full.init_latents.sizes(), ", "));
  }
  return full;
}

Request part_of(const Request& request, size_t first, size_t count) {
  Request part = request;
  const auto begin = request.prompts.begin() + static_cast<int64_t>(first);
  part.prompts.assign(begin, begin + static_cast<int64_t>(count));
  part.seed = request.seed + static_cast<int64_t>(first);
  if (request.init_latents.defined()) {
    part.init_latents = request.init_latents.narrow(0, static_cast<int64_t>(first), static_cast<int64_t>(count));
  }
  return part;
}

Tensor sample_latents(const Model& model, const Request& request, Reporter& reporter) {
  at::NoGradGuard no_grad;
  const Request full = resolve(request, model);
  const models::UNet& unet = model.need_unet("drawing");
  const auto options = model.unet->store.params().front().value.options();
  const PromptPlan prompts(
      model, full.prompts, full.negative,
      {.syntax = full.prompt_syntax, .clip_skip = full.clip_skip, .width = full.width, .height = full.height},
      {.cfg = full.cfg, .cfg_rescale = full.cfg_rescale, .steps = full.steps});

  const std::vector<int64_t> shape = latent_shape(model, full);
  BatchNoise noise(full.rng, static_cast<uint64_t>(full.seed), static_cast<int64_t>(full.prompts.size()));
  const Tensor first = noise.draw(shape);
  const Tensor start = full.init_latents.defined() ? full.init_latents : first;

  int64_t step = 0;
  const auto network = [&](const Tensor& input, double timestep) {
    const Tensor x = prompts.rows(input.to(options));
    const Tensor t = at::full({x.size(0)}, timestep, options.dtype(at::kFloat));
    return prompts.guide(unet.forward(x, t, prompts.conditioning(step)).to(at::kFloat));
  };
  const auto progress = [&](int64_t done, int64_t) {
    EMULSION_CHECK(!stop_requested(), cancelled, "stopped while drawing; finished pictures were written");
    step = done;
    reporter.advance(done);
  };
  const diffusion::Sampler& sampler = diffusion::find_sampler(full.sampler);
  const auto plan =
      diffusion::make_plan(diffusion::NoiseSchedule(model.scheduler.noise), sampler,
                           config::value_of<diffusion::SigmaSchedule>(full.schedule), full.steps, model.scheduler.options);
  reporter.begin("Drawing", full.steps, "steps");
  const Tensor latents =
      diffusion::sample(sampler, plan, start.to(options.device()), diffusion::denoiser(model.scheduler.prediction, network),
                        [&](int64_t) { return noise.draw(shape).to(options.device()); }, progress);
  reporter.end();
  return latents;
}

}  // namespace emulsion::generate
