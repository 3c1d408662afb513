// What all methods that train a denoiser share.
#include <ATen/Parallel.h>

#include <optional>

#include "core/error.h"
#include "core/stop.h"
#include "diffusion/training_draws.h"
#include "generate/generate.h"
#include "io/hash.h"
#include "nn/chance.h"
#include "nn/leaf.h"
#include "train/prior.h"
#include "train/methods.h"
#include "weights/adapter_file.h"
#include "weights/load_model.h"

namespace emulsion::train {
namespace {

Denoising denoising_of(const models::Model& model, const RunConfig& config) {
  Denoising denoising = {diffusion::NoiseSchedule(model.scheduler.noise), model.scheduler.prediction, config.objective};
  diffusion::validate(denoising.options, denoising.prediction, denoising.schedule);
  return denoising;
}

/// A fingerprint of a part's weights and their type, so that a cache never outlives them.
std::string fingerprint(const nn::ParamStore& store) {
  const auto& params = store.params();
  std::vector<std::string> hashes(params.size());
  at::parallel_for(0, static_cast<int64_t>(params.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const Tensor value = params[i].value.detach().cpu().contiguous();
      const std::string_view bytes(static_cast<const char*>(value.const_data_ptr()), value.nbytes());
      hashes[i] = c10::toString(value.scalar_type()) + io::sha256_hex(bytes);
    }
  });
  return io::sha256_hex(fmt::format("{}", fmt::join(hashes, ";")));
}

/// Of a picture whose file has the hash `content`, at `size`.
std::string latent_key(const std::string& content, data::Size size, bool flipped) {
  return data::cache_key({content, fmt::format("{}x{}", size.width, size.height), flipped ? "flipped" : "plain"});
}

}  // namespace

at::ScalarType dtype_of(ComputeDtype dtype) { return dtype == ComputeDtype::bfloat16 ? at::kBFloat16 : at::kFloat; }

models::Model loaded_model(const RunConfig& config, at::ScalarType dtype) {
  if (!config.model.merge.empty()) dtype = at::kFloat;
  models::Model model = weights::load_model(config.model.path, {.dtype = dtype});
  if (!config.model.vae.empty()) weights::replace_vae(model, config.model.vae, dtype);
  for (const MergeConfig& merged : config.model.merge) {
    adapters::AdapterSet adapter = weights::load_adapter(merged.path, model);
    adapters::bake(adapter, merged.strength, model.components());
  }
  return model;
}

void add_trainables(nn::ParamStore& store, const std::string& prefix, std::vector<Trainable>& into,
                    const std::function<WeightRule(const std::string& path)>& rule) {
  for (nn::Param& param : store.params()) {
    const WeightRule its = rule(param.path);
    if (its.lr == 0) continue;
    param.value = param.value.detach().clone(at::MemoryFormat::Preserve).set_requires_grad(true);
    into.push_back({prefix + param.path, &param.value, param.shape.size() > 1, its.lr, its.from, its.until});
  }
}

DenoiserMethod::DenoiserMethod(const RunConfig& config, models::Model model)
    : config_(config),
      model_(std::move(model)),
      rng_(static_cast<uint64_t>(config.seed)),
      denoising_(denoising_of(model_, config)) {
  model_.need_unet("training");
  model_.need_vae("training");
  model_.need_text_encoder("training");
}

void DenoiserMethod::prepare(const data::BatchSource& source, const std::filesystem::path& cache, Reporter& reporter) {
  if (config_.data.cache_latents && data::pictures_are_fixed(config_.data)) cache_latents(source, cache, reporter);
  if (!text_encoder_changes()) cache_texts(source, cache, reporter);
}

void DenoiserMethod::cache_latents(const data::BatchSource& source, const std::filesystem::path& folder,
                                   Reporter& reporter) {
  at::NoGradGuard no_grad;
  const auto& samples = source.index().samples;
  const auto& data = config_.data;
  const std::string settings = data::cache_key({"moments", fingerprint(model_.vae->store), data.background});
  auto cache = std::make_unique<data::TensorCache>(folder, "latents", settings);
  std::vector<data::CacheItem> items;  // that are missing
  std::vector<std::pair<int64_t, bool>> whats;
  for (size_t i = 0; i < samples.size(); ++i) {
    const data::Size size = source.plan().fit(static_cast<int64_t>(i)).size;
    const std::string content = data::content_hash(samples[i]);
    for (const bool flip : {false, true}) {
      if (flip && data.flip == 0) continue;
      std::string key = latent_key(content, size, flip);
      if (cache->contains(key)) continue;
      items.push_back({std::move(key), size.width * 100000 + size.height});
      whats.emplace_back(static_cast<int64_t>(i), flip);
    }
  }
  const models::Vae& vae = model_.vae->net;
  const auto options = model_.vae->store.params().front().value.options();
  const auto compute = [&](std::span<const int64_t> which) {
    std::vector<Tensor> pictures;
    for (const int64_t item : which) pictures.push_back(source.picture(whats[item].first, whats[item].second));
    const Tensor all = vae.encode(at::stack(pictures).to(options)).to(at::kFloat).cpu();
    EMULSION_CHECK(all.isfinite().all().item<bool>(), numeric,
                   "[cache] the autoencoder gave NaN or infinity near '{}'; use dtype = \"float32\"",
                   samples[whats[which.front()].first].id);
    std::vector<data::Tensors> results;
    for (int64_t i = 0; i < all.size(0); ++i) results.push_back({all[i].contiguous()});
    return results;
  };
  std::optional<Progress> encoding;  // none if all are there
  const auto progress = [&](int64_t done, int64_t total) {
    if (total == 0) return;
    if (!encoding) encoding.emplace(reporter, "Encoding pictures", total, "pictures");
    encoding->advance(done);
  };
  const bool complete = data::fill_cache(*cache, items, kCacheBatch, compute, progress, stop_requested);
  EMULSION_CHECK(complete, cancelled, "stopped while encoding pictures; what is encoded is kept");
  latent_cache_ = std::move(cache);
}

void DenoiserMethod::cache_texts(const data::BatchSource& source, const std::filesystem::path& folder, Reporter& reporter) {
  at::NoGradGuard no_grad;
  if (!data::captions_are_fixed(config_.data)) return;  // too many forms to keep
  const auto encode = [&](const std::string& caption) { return generate::text_states(model_, {caption}, text_options()); };
  const auto settings = [&] {
    std::string parts = fmt::format("states;{};{};", config_.text.weighted, config_.text.clip_skip);
    for (const auto* encoder : {&model_.text_encoder, &model_.text_encoder_2}) {
      if (*encoder) parts += fingerprint((*encoder)->store) + ";";
    }
    return parts;
  };
  text_cache_ = std::make_unique<TextCache>(source.index(), encode, settings, folder, reporter);
}

generate::TextOptions DenoiserMethod::text_options() const {
  return {.syntax = config_.text.weighted ? generate::PromptSyntax::weighted : generate::PromptSyntax::plain,
          .clip_skip = config_.text.clip_skip,
          .names = learned_words()};
}

/// [B, 2z, h, w] float32.
Tensor DenoiserMethod::moments(const data::Batch& batch) {
  if (!latent_cache_) {
    at::NoGradGuard no_grad;
    const auto options = model_.vae->store.params().front().value.options();
    return model_.vae->net.encode(batch.pixels.to(options)).to(at::kFloat);
  }
  const data::Size size = {batch.size_ids[0][5].item<int64_t>(), batch.size_ids[0][4].item<int64_t>()};
  std::vector<Tensor> parts;
  for (size_t i = 0; i < batch.contents.size(); ++i) {
    parts.push_back(latent_cache_->get(latent_key(batch.contents[i], size, batch.flipped[i])).front());
  }
  return at::stack(parts);
}

int64_t DenoiserMethod::weight_count() const {
  return model_.unet->store.numel() + model_.text_encoder->store.numel();
}

/// What the batch's captions and sizes tell the network. Short contexts are padded with the states of empty text, up to
/// the longest of `all_captions`.
models::Conditioning DenoiserMethod::conditioning(const data::Batch& batch, const std::vector<std::string>& all_captions) {
  models::Conditioning all;
  if (!text_cache_ || !text_cache_->complete()) {
    generate::TextOptions options = text_options();
    if (all_captions.size() > batch.captions.size()) options.chunks = generate::chunk_count(model_, all_captions, options);
    all = generate::text_states(model_, batch.captions, options);
  } else {
    std::vector<Tensor> states, pooled;
    int64_t longest = 0;
    for (const std::string& caption : all_captions) longest = std::max(longest, text_cache_->at(caption).context.size(1));
    for (const std::string& caption : batch.captions) {
      const models::Conditioning one = text_cache_->at(caption);
      states.push_back(one.context);
      if (one.pooled.defined()) pooled.push_back(one.pooled);
    }
    for (Tensor& state : states) {
      while (state.size(1) < longest) state = at::cat({state, text_cache_->at("").context}, 1);
    }
    all.context = at::cat(states);
    if (!pooled.empty()) all.pooled = at::cat(pooled);
  }
  if (model_.unet->net.config().text_time_conditioning) all.size_ids = batch.size_ids.to(all.context.device());
  return all;
}

/// Noise and perturbation of each sample, by its draw.
void DenoiserMethod::draw_noise(const std::vector<int64_t>& draws, DenoisingInputs& in) const {
  std::vector<Tensor> noise, perturbations;
  for (size_t i = 0; i < draws.size(); ++i) {
    const Tensor latent = in.latents[static_cast<int64_t>(i)];
    noise.push_back(diffusion::training_noise(config_.objective, rng_, draws[i], latent));
    perturbations.push_back(diffusion::input_perturbation(config_.objective, rng_, draws[i], latent.sizes()));
  }
  in.noise = at::stack(noise);
  if (perturbations.front().defined()) in.perturbation = at::stack(perturbations);
}

Loss DenoiserMethod::loss(const data::Batch& batch, const StepAddress& address) {
  nn::set_chance({rng_, static_cast<uint64_t>(address.step * config_.accumulate + address.micro_batch), batch.draws});
  const models::Posterior posterior(moments(batch));
  const std::vector<int64_t> one(posterior.mean.sizes().begin() + 1, posterior.mean.sizes().end());
  std::vector<Tensor> eps;
  for (const int64_t draw : batch.draws) eps.push_back(rng_.normal(one, Purpose::latent, static_cast<uint64_t>(draw)));
  const data::Batch& whole = address.whole ? *address.whole : batch;
  const int64_t count = static_cast<int64_t>(batch.draws.size()), total = static_cast<int64_t>(whole.draws.size());
  DenoisingInputs in;
  in.latents = models::scale_latents(model_.vae->net.config(), posterior.sample(at::stack(eps)));
  draw_noise(batch.draws, in);
  in.timesteps = diffusion::sample_timesteps(config_.objective, rng_, address.step, address.micro_batch * total + address.first,
                                             count, total * config_.accumulate, denoising_.schedule.size());
  in.conditioning = conditioning(batch, whole.captions);
  if (!batch.weights.empty()) in.weights = at::tensor(batch.weights, at::kFloat);
  if (batch.masks.defined()) in.mask = at::adaptive_avg_pool2d(batch.masks, in.latents.sizes().slice(2)).to(in.latents.device());
  ask_untouched(batch, whole.captions, in);
  return denoising_(model_.unet->net, in);
}

/// Prior prediction: for the samples that want it, what the model says without what trains. Source: OneTrainer's
/// PRIOR_PREDICTION; the same as ai-toolkit's differential output preservation.
void DenoiserMethod::ask_untouched(const data::Batch& batch, const std::vector<std::string>& all_captions, DenoisingInputs& in) {
  std::vector<int64_t> rows;
  data::Batch few;
  for (size_t i = 0; i < batch.prior_prediction.size(); ++i) {
    if (!batch.prior_prediction[i]) continue;
    rows.push_back(static_cast<int64_t>(i));
    few.captions.push_back(batch.captions[i]);
  }
  if (rows.empty()) return;
  const at::NoGradGuard no_grad;
  const nn::WithoutAdapters without_adapters;
  in.taught = at::tensor(rows, at::kLong).to(in.latents.device());
  const auto of_rows = [&](const Tensor& all) { return all.defined() ? all.index_select(0, in.taught.to(all.device())) : all; };
  few.size_ids = of_rows(batch.size_ids);
  DenoisingInputs question = {of_rows(in.latents), of_rows(in.noise), of_rows(in.timesteps), conditioning(few, all_captions)};
  question.perturbation = of_rows(in.perturbation);
  in.teacher = denoising_.predict(model_.unet->net, question);
}

/// Mean squared error, whatever the objective weighs: figures of differently trained runs can be compared.
Tensor DenoiserMethod::validation_losses(const data::Batch& batch, const std::vector<std::vector<std::string>>& readings,
                                         const std::vector<double>& whens) const {
  const nn::WithoutChance without_chance;
  const auto options = model_.vae->store.params().front().value.options();
  const models::Posterior posterior(model_.vae->net.encode(batch.pixels.to(options)).to(at::kFloat));
  DenoisingInputs in;
  in.latents = models::scale_latents(model_.vae->net.config(), posterior.mean);
  std::vector<Tensor> noise;
  for (size_t i = 0; i < batch.draws.size(); ++i) {
    noise.push_back(
        rng_.normal(in.latents[static_cast<int64_t>(i)].sizes(), Purpose::validation, static_cast<uint64_t>(batch.draws[i])));
  }
  in.noise = at::stack(noise).to(in.latents.device());
  const Denoising plain = {denoising_.schedule, denoising_.prediction, {}};
  std::vector<Tensor> losses;
  for (const std::vector<std::string>& captions : readings) {
    in.conditioning = generate::text_states(model_, captions, text_options());
    if (model_.unet->net.config().text_time_conditioning) in.conditioning.size_ids = batch.size_ids.to(in.latents.device());
    losses.push_back(at::zeros({in.latents.size(0)}, at::kDouble));
    for (const double when : whens) {
      const auto timestep = static_cast<int64_t>(when * static_cast<double>(plain.schedule.size()));
      in.timesteps = at::full({in.latents.size(0)}, timestep, at::kLong);
      losses.back() += plain(model_.unet->net, in).per_sample.to(losses.back().options());
    }
  }
  return at::stack(losses) / static_cast<double>(whens.size());
}

Loss DenoiserMethod::replay(const DenoisingInputs& inputs, const Tensor& input_ids) {
  DenoisingInputs in = inputs;
  const auto dtype = dtype_of(config_.dtype);
  const bool recorded = inputs.conditioning.context.defined();
  if (!recorded) in.conditioning.context = model_.need_text_encoder("recorded input_ids").forward(input_ids).last;
  in.conditioning = in.conditioning.to(at::TensorOptions(dtype));
  return denoising_(model_.unet->net, in);
}

void DenoiserMethod::draw_class_pictures(const PriorConfig& prior, const std::filesystem::path& folder, Reporter& reporter) {
  train::draw_class_pictures(prior, folder, config_.data.resolution, model_, reporter);
}

Tensor DenoiserMethod::preview(const data::BatchSource& source, Reporter& reporter) {
  at::NoGradGuard no_grad;
  const nn::WithoutChance without_chance;
  generate::Request request;
  request.prompts = config_.preview.prompts;
  const auto& samples = source.index().samples;
  if (request.prompts.empty()) {
    const auto count = std::min<size_t>(samples.size(), static_cast<size_t>(config_.preview.count));
    for (size_t i = 0; i < count; ++i) request.prompts.push_back(samples[i * samples.size() / count].captions.front());
  }
  request.seed = config_.preview.seed;
  request.steps = config_.preview.steps;
  request.cfg = config_.preview.cfg;
  request.width = request.height = config_.data.resolution;
  request.prompt_syntax = text_options().syntax;
  request.names = text_options().names;
  request.clip_skip = text_options().clip_skip;

  const auto count = static_cast<int64_t>(request.prompts.size());
  const int64_t together = generate::pictures_together(config_.data.resolution);
  std::vector<Tensor> pictures;
  Progress progress(reporter, "Preview", count, "pictures");
  for (int64_t first = 0; first < count; first += together) {
    const auto part =
        generate::part_of(request, static_cast<size_t>(first), static_cast<size_t>(std::min(together, count - first)));
    pictures.push_back(generate::decode_latents(model_, generate::sample_latents(model_, part, reporter)));
    progress.advance(std::min(first + together, count));
  }
  return generate::make_grid(at::cat(pictures), 8);
}

}  // namespace emulsion::train
