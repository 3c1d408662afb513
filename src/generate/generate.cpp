#include "generate/generate.h"

#include "config/enum_names.h"
#include "core/error.h"
#include "core/stop.h"
#include "diffusion/guidance.h"

namespace emulsion::generate {
namespace {

using models::Model;

at::TensorOptions like_unet(const Model& model) { return model.unet->store.params().front().value.options(); }

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
    const std::vector<int64_t> expected = {static_cast<int64_t>(full.prompts.size()),
                                           model.unet->net.config().in_channels, full.height / factor,
                                           full.width / factor};
    EMULSION_CHECK(full.init_latents.sizes() == at::IntArrayRef(expected), shape,
                   "[generate] initial latents: expected [{}], got [{}]", fmt::join(expected, ", "),
                   fmt::join(full.init_latents.sizes(), ", "));
  }
  return full;
}

Tensor sample_latents(const Model& model, const Request& request, Reporter& reporter) {
  at::NoGradGuard no_grad;
  const Request full = resolve(request, model);
  const models::UNet& unet = model.need_unet("drawing");
  const auto options = like_unet(model);
  const int64_t batch = static_cast<int64_t>(full.prompts.size());
  const int64_t factor = model.vae->net.config().factor();
  const std::vector<int64_t> shape = {1, unet.config().in_channels, full.height / factor, full.width / factor};

  // Guidance runs both halves in one batch.
  const bool guided = full.cfg != 1;
  std::vector<std::string> texts = full.prompts;
  if (guided) texts.insert(texts.begin(), texts.size(), full.negative);
  const models::Conditioning conditioning =
      text_states(model, texts,
                  {.syntax = full.prompt_syntax,
                   .negatives = guided ? batch : 0,
                   .width = full.width,
                   .height = full.height})
          .to(options);

  const auto noise_of = [&](uint64_t address) {  // the i-th picture's noise depends on seed + i only
    std::vector<Tensor> parts;
    for (int64_t i = 0; i < batch; ++i) {
      parts.push_back(Rng(static_cast<uint64_t>(full.seed + i)).normal(shape, Purpose::sample, address));
    }
    return at::cat(parts);
  };
  const Tensor start = full.init_latents.defined() ? full.init_latents : noise_of(0);

  const diffusion::NoiseSchedule schedule(model.scheduler.noise);
  const diffusion::Sampler& sampler = diffusion::find_sampler(full.sampler);
  const auto spacing = config::value_of<diffusion::SigmaSchedule>(full.schedule);
  const auto plan = diffusion::make_plan(schedule, sampler, spacing, full.steps, model.scheduler.options);

  const auto network = [&](const Tensor& input, double timestep) {
    Tensor x = input.to(options);
    if (guided) x = at::cat({x, x});
    const Tensor t = at::full({x.size(0)}, timestep, options.dtype(at::kFloat));
    const Tensor out = unet.forward(x, t, conditioning).to(at::kFloat);
    if (!guided) return out;
    const auto halves = out.chunk(2);
    return diffusion::cfg(halves[0], halves[1], full.cfg);
  };
  const auto progress = [&](int64_t done, int64_t) {
    EMULSION_CHECK(!stop_requested(), cancelled, "stopped while drawing; nothing was written");
    reporter.advance(done);
  };
  reporter.begin("Drawing", full.steps, "steps");
  const Tensor latents =
      diffusion::sample(sampler, plan, start.to(options.device()), diffusion::denoiser(model.scheduler.prediction, network),
                        [&](int64_t step) { return noise_of(1 + static_cast<uint64_t>(step)).to(options.device()); }, progress);
  reporter.end();
  return latents;
}

Tensor to_bytes(const Tensor& pixels) {
  return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(at::kByte).permute({0, 2, 3, 1}).contiguous();
}

Tensor decode_latents(const Model& model, const Tensor& latents) {
  at::NoGradGuard no_grad;
  const models::Vae& vae = model.need_vae("decoding");
  const auto options = model.vae->store.params().front().value.options();
  std::vector<Tensor> pictures;
  for (const Tensor& latent : latents.split(8)) {
    const Tensor pixels = vae.decode(models::unscale_latents(vae.config(), latent).to(options)).to(at::kFloat);
    EMULSION_CHECK(pixels.isfinite().all().item<bool>(), numeric,
                   "[generate] the decoded picture holds NaN or infinity; try --dtype float32");
    pictures.push_back(to_bytes(pixels));
  }
  return at::cat(pictures).cpu();
}

std::string parameters_text(const Request& request, size_t index, const std::string& model_name,
                            const std::vector<std::pair<std::string, double>>& loras) {
  std::string text = request.prompts.at(index);
  for (const auto& [name, weight] : loras) text += fmt::format(" <lora:{}:{}>", name, weight);
  if (!request.negative.empty()) text += "\nNegative prompt: " + request.negative;
  text += fmt::format("\nSteps: {}, Sampler: {}, Schedule type: {}, CFG scale: {}, Seed: {}, Size: {}x{}, Model: {}, Version: emulsion",
                      request.steps, request.sampler, request.schedule, request.cfg,
                      request.seed + static_cast<int64_t>(index), request.width, request.height, model_name);
  return text;
}

Tensor make_grid(const Tensor& pictures, int64_t columns, int64_t gap) {
  const int64_t count = pictures.size(0), height = pictures.size(1), width = pictures.size(2);
  columns = std::min(columns, count);
  const int64_t rows = (count + columns - 1) / columns;
  Tensor grid = at::full({rows * (height + gap) + gap, columns * (width + gap) + gap, 3}, 255, at::kByte);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t y = gap + (i / columns) * (height + gap), x = gap + (i % columns) * (width + gap);
    grid.narrow(0, y, height).narrow(1, x, width).copy_(pictures[i]);
  }
  return grid;
}

}  // namespace emulsion::generate
