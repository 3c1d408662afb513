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
  return {vae.latent_channels, latent_size(full.height, vae.factor()), latent_size(full.width, vae.factor())};
}

void resolve_size(Request& full, const Model& model) {
  const int64_t factor = model.need_vae("drawing").config().factor();
  const int64_t side = model.need_unet("drawing").config().sample_size * factor;
  EMULSION_CHECK(full.width >= 0 && full.height >= 0, config,
                 "[generate] size {}x{}: expected sides divisible by {}", full.width == 0 ? side : full.width,
                 full.height == 0 ? side : full.height, factor);
  resolve_source(full.source, full.width, full.height, model);
  if (full.width == 0) full.width = side;
  if (full.height == 0) full.height = side;
  EMULSION_CHECK(full.source.given() || (full.width % factor == 0 && full.height % factor == 0), config,
                 "[generate] size {}x{}: expected sides divisible by {}", full.width, full.height, factor);
}

/// Everything that the solver starts from and is told.
struct Start {
  diffusion::SamplingPlan plan;
  Tensor x;        // [B, z, h, w] at the plan's first sigma
  Tensor picture;  // [B or 1, z, h, w] that kept latents come back to; undefined: nothing is kept
  Tensor mask;     // [1, 1, h, w], 1 where drawn
  Tensor told;     // [B or 1, 1 + z, h, w], for inpainting models
};

/// `noise` is at its beginning. The order of draws is that of diffusers.
Start start_of(const Model& model, const Request& full, diffusion::SamplingPlan plan, BatchNoise& noise) {
  const std::vector<int64_t> shape = latent_shape(model, full);
  const auto latent_choice = [&] { return full.rng == NoiseSource::cpu ? noise.draw(shape) : Tensor(); };
  const Source& source = full.source;
  const bool told = is_inpainting(model), masked = source.given() && source.mask.defined();
  const bool from_noise = !source.given() || (masked && source.strength == 1);
  Start start;
  start.plan = std::move(plan);
  if (source.given() && !(from_noise && told)) start.picture = picture_latents(model, source, latent_choice(), full.vae_tiling);

  const Tensor drawn = noise.draw(shape);
  const Tensor eps = full.init_latents.defined() ? full.init_latents : drawn;
  const double pure = start.plan.init_scale;
  if (source.given()) start.plan = diffusion::truncate(start.plan, source.strength);
  if (start.picture.defined()) start.x = start.picture.cpu() + start.plan.sigmas.front() * eps;
  if (masked && !told) {
    start.mask = latent_mask(source.mask, model.vae->net.config().factor());
    if (from_noise) start.x = start.mask * pure * eps + (1 - start.mask) * start.x;
  } else {
    if (from_noise) start.x = pure * eps;
    start.picture = Tensor();
  }
  if (told) start.told = inpainting_channels(model, source, full.width, full.height, latent_choice());
  return start;
}

/// [B, C, h, w] with `more` [B or 1, C', h, w] behind its channels.
Tensor with_channels(const Tensor& x, const Tensor& more) {
  if (!more.defined()) return x;
  return at::cat({x, more.to(x.options()).expand({x.size(0), -1, -1, -1})}, 1);
}

/// Estimates of x0 that are the picture's own where it is kept.
diffusion::DenoiseFn keeping(const Start& start, diffusion::DenoiseFn denoise) {
  if (!start.mask.defined()) return denoise;
  return [denoise = std::move(denoise), mask = start.mask, picture = start.picture](const Tensor& x, auto... where) {
    return mask.to(x.device()) * denoise(x, where...) + (1 - mask.to(x.device())) * picture.to(x.device());
  };
}

diffusion::SamplingPlan plan_of(const Model& model, const Request& full) {
  diffusion::SchedulerOptions options = model.scheduler.options;
  options.sdxl_table = model.unet->net.config().text_time_conditioning;
  return diffusion::make_plan(diffusion::NoiseSchedule(model.scheduler.noise), diffusion::find_sampler(full.sampler),
                              config::value_of<diffusion::SigmaSchedule>(full.schedule), full.steps, options);
}

}  // namespace

Request resolve(const Request& request, const Model& model) {
  Request full = request;
  resolve_size(full, model);
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

int64_t pictures_together(int64_t side) { return std::max<int64_t>(1, 512 * 512 / (side * side)); }

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
      {.syntax = full.prompt_syntax, .clip_skip = full.clip_skip, .width = full.width, .height = full.height, .names = full.names},
      {.cfg = full.cfg, .cfg_rescale = full.cfg_rescale, .steps = full.steps});

  const std::vector<int64_t> shape = latent_shape(model, full);
  BatchNoise noise(full.rng, static_cast<uint64_t>(full.seed), static_cast<int64_t>(full.prompts.size()));
  const Start start = start_of(model, full, plan_of(model, full), noise);

  int64_t step = 0;
  Progress drawing(reporter, "Drawing", static_cast<int64_t>(start.plan.timesteps.size()), "steps");
  const auto network = [&](const Tensor& input, double timestep) {
    const Tensor x = prompts.rows(with_channels(input.to(options), start.told));
    const Tensor t = at::full({x.size(0)}, timestep, options.dtype(at::kFloat));
    return prompts.guide(unet.forward(x, t, prompts.conditioning(step)).to(at::kFloat));
  };
  const auto progress = [&](int64_t done, int64_t) {
    EMULSION_CHECK(!stop_requested(), cancelled, "stopped while drawing; finished pictures were written");
    step = done;
    drawing.advance(done);
  };
  const Tensor latents = diffusion::sample_from(
      diffusion::find_sampler(full.sampler), start.plan, start.x.to(options.device()),
      keeping(start, diffusion::denoiser(model.scheduler.prediction, network)),
      [&](int64_t) { return noise.draw(shape).to(options.device()); }, progress);
  if (!start.mask.defined()) return latents;
  const Tensor mask = start.mask.to(latents.device());  // a plan may end a little before the end
  return mask * latents + (1 - mask) * start.picture.to(latents.device());
}

Tensor finish(const Model& model, const Request& request, const Tensor& latents, Reporter& reporter) {
  return put_back(request.source, decode_latents(model, latents, request.vae_tiling, &reporter));
}

}  // namespace emulsion::generate
