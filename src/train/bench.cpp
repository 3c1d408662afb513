#include "train/bench.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>

#include "config/config.h"
#include "config/suggest.h"
#include "core/allocator.h"
#include "core/device.h"
#include "core/error.h"
#include "diffusion/training_draws.h"
#include "models/filled.h"
#include "nn/flops.h"
#include "train/methods.h"
#include "train/trainer.h"

namespace emulsion::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// A model that the project's own run files train from random weights, text encoder and all.
struct SmallModel {
  std::string name;
  models::ArchitectureConfig architecture;
  int64_t batch;
};

const std::vector<SmallModel>& small_models() {
  static const std::vector<SmallModel> all = {{"quickstart", {}, 16},
                                              {"base", {.unet_channels = {64, 128, 192}, .text_merges = 48894}, 32}};
  return all;
}

const SmallModel* small_model(const std::string& name) {
  const auto found = std::ranges::find(small_models(), name, &SmallModel::name);
  return found == small_models().end() ? nullptr : &*found;
}

models::Model made_model(models::ArchitectureConfig architecture, int64_t size) {
  if (size > 0) architecture.resolution = size;
  const Rng rng(0);
  models::Model model;
  model.vae = models::new_vae(models::vae_config(architecture), rng);
  model.unet = models::new_unet(models::unet_config(architecture), rng);
  model.text_encoder = models::new_text_encoder(models::clip_text_config(architecture), rng);
  model.tokenizer = models::ClipTokenizer::truncated(architecture.text_merges);
  return model;
}

models::Family family_of(const BenchOptions& options) {
  const auto names = bench_models();
  EMULSION_CHECK(std::ranges::find(names, options.model) != names.end(), config, "[bench] no model named '{}'{}; there are: {}",
                 options.model, config::did_you_mean(options.model, names), fmt::join(names, ", "));
  const models::Family& family = models::find_family(options.model);
  return options.tiny ? models::tiny(family) : family;
}

RunConfig config_of(const BenchOptions& options) {
  const SmallModel* const small = small_model(options.model);
  RunConfig config;
  config.steps = options.steps;
  config.dtype = options.dtype;
  config.ema.enabled = small != nullptr;
  config.batch_size = options.batch > 0 ? options.batch : (small ? small->batch : 1);
  if (options.method == "lora") {
    config.method = LoraMethod{};
  } else {
    EMULSION_CHECK(options.method == "diffusion", config,
                   "[bench] no method named '{}'; there are: diffusion, lora", options.method);
    config.method = DiffusionMethod{.train_text_encoder = small != nullptr};
  }
  for (const auto& [key, value] : options.settings) config::override_field(config, key, value);
  if (const auto* lora = std::get_if<LoraMethod>(&config.method)) adapters::validate(*lora);
  return config;
}

}  // namespace

std::vector<std::string> bench_models() {
  std::vector<std::string> names;
  for (const SmallModel& small : small_models()) names.push_back(small.name);
  for (const models::Family& family : models::families()) {
    if (family.unet.in_channels == family.vae.latent_channels) names.push_back(family.id);  // not those that fill in pictures
  }
  return names;
}

double measure_peak(at::ScalarType dtype) {
  const int64_t n = 1024;
  const Tensor a = at::randn({n, n}).to(dtype), b = at::randn({n, n}).to(dtype);
  double best = 0;
  const auto begin = Clock::now();
  while (seconds_since(begin) < 0.5) {
    const auto start = Clock::now();
    at::mm(a, b);
    best = std::max(best, 2e-9 * static_cast<double>(n * n * n) / seconds_since(start));
  }
  return best;
}

namespace {

DenoisingInputs part_of(const DenoisingInputs& in, int64_t first, int64_t count) {
  const auto part = [&](const Tensor& all) { return all.defined() ? all.narrow(0, first, count) : all; };
  const models::Conditioning& c = in.conditioning;
  return {part(in.latents), part(in.noise), part(in.timesteps), {part(c.context), part(c.pooled), part(c.size_ids)}};
}

/// One model with its optimizer, stepping on random inputs.
class SteppingModel {
 public:
  SteppingModel(const BenchOptions& options, RunConfig config)
      : config_(std::move(config)), flops_factor_(options.method == "lora" ? 2 : 3), batch_(config_.batch_size) {
    models::Model model;
    int64_t size = options.size;
    if (const SmallModel* const small = small_model(options.model)) {
      model = made_model(small->architecture, size);
      if (size == 0) size = small->architecture.resolution;
      vocabulary_ = model.tokenizer->vocab_size();
    } else {
      const models::Family family = family_of(options);
      model = models::filled_model(family, dtype_of(options.dtype), {"unet"});
      if (size == 0) size = family.size;
    }
    trim_allocator();
    side_ = size / model.vae->net.config().factor();
    unet_ = model.unet->net.config();
    method_ = options.method == "lora" ? make_lora_method(config_, std::move(model))
                                       : make_diffusion_method(config_, std::move(model));
    learner_.emplace(config_, *method_);
  }

  /// One optimizer step. -> its loss
  Tensor step(int64_t step) {
    const auto [inputs, ids] = inputs_of(step);
    std::atomic<double> flops = 0;
    learner_->begin(step);
    const Loss loss = learner_->backward(batch_, 1, [&](int64_t first, int64_t count) {
      const nn::FlopCounter counter;
      Loss part = method_->replay(part_of(inputs, first, count), ids.defined() ? ids.narrow(0, first, count) : ids);
      flops += counter.flops();
      return part;
    });
    // Backward repeats the products for the inputs, and for the weights where they train.
    gflop_ = flops * flops_factor_ / 1e9;
    learner_->update();
    return loss.value;
  }

  double gflop() const { return gflop_; }

 private:
  /// Random inputs, and token ids where the text encoder reads them in every step.
  std::pair<DenoisingInputs, Tensor> inputs_of(int64_t step) const {
    DenoisingInputs inputs;
    inputs.latents = rng_.normal({batch_, unet_.in_channels, side_, side_}, Purpose::latent, step);
    inputs.noise = rng_.normal({batch_, unet_.in_channels, side_, side_}, Purpose::noise, step);
    inputs.timesteps =
        diffusion::sample_timesteps({.timestep_sampling = diffusion::TimestepSampling::stratified}, rng_, step, 0, batch_, batch_,
                                    1000);
    if (vocabulary_ > 0) return {inputs, ids_of(step)};
    inputs.conditioning.context = rng_.normal({batch_, models::kClipLength, unet_.cross_attention_dim}, Purpose::caption, step);
    if (unet_.text_time_conditioning) {
      const auto side = static_cast<double>(8 * side_);
      inputs.conditioning.pooled = rng_.normal({batch_, unet_.pooled_dim()}, Purpose::caption, step, 1);
      inputs.conditioning.size_ids = at::tensor({side, side, 0.0, 0.0, side, side}, at::kFloat).expand({batch_, 6}).contiguous();
    }
    return {inputs, {}};
  }

  Tensor ids_of(int64_t step) const {
    Stream words = rng_.stream(Purpose::caption, step);
    Tensor ids = at::empty({batch_, models::kClipLength}, at::kLong);
    for (int64_t i = 0; i < ids.numel(); ++i) ids.data_ptr<int64_t>()[i] = words.below(vocabulary_);
    return ids;
  }

  const RunConfig config_;  // the learner refers to it
  const Rng rng_{1};
  double flops_factor_, gflop_ = 0;
  int64_t batch_, side_ = 0, vocabulary_ = 0;
  models::UNetConfig unet_;
  std::unique_ptr<Method> method_;
  std::optional<Learner> learner_;
};

constexpr int64_t kProfiledSteps = 4;

/// Steps of their own, so that recording costs the timed ones nothing. Times and counts are per step.
std::vector<OperatorTime> profile(const BenchOptions& options) {
  RunConfig config = config_of(options);
  config.lanes = 1;  // what is recorded is what this thread asks for
  SteppingModel model(options, config);
  model.step(options.steps);
  const auto begin = Clock::now();
  std::vector<OperatorTime> rows;
  {
    OperatorProfile recorded(options.profile == ProfileDetail::shapes);
    for (int64_t step = 0; step < kProfiledSteps; ++step) model.step(options.steps + 1 + step);
    rows = recorded.times();
  }
  double outside = seconds_since(begin);
  for (const OperatorTime& row : rows) outside -= row.seconds;
  rows.push_back({"between operators", "", kProfiledSteps, outside, 0});
  for (OperatorTime& row : rows) {
    row.calls /= kProfiledSteps;
    row.seconds /= kProfiledSteps;
    row.gflop /= kProfiledSteps;
  }
  return rows;
}

}  // namespace

BenchResult bench_step(const BenchOptions& options, Reporter& reporter) {
  const auto begin = Clock::now();
  set_compute_threads(options.threads);
  std::optional<SteppingModel> model;
  model.emplace(options, config_of(options));

  std::vector<double> times;
  BenchResult result;
  int64_t faults = page_faults(), requests = allocator_stats().system_calls;
  Progress progress(reporter, "Timing", options.steps, "steps");
  for (int64_t step = 0; step < options.steps; ++step) {
    const auto start = Clock::now();
    const Tensor loss = model->step(step);
    if (step == 0) {
      result.first_loss = loss.item<double>();
      result.first_step_seconds = seconds_since(begin);
    } else {
      times.push_back(seconds_since(start));
    }
    progress.advance(step + 1);
    if (step == 1) {
      faults = page_faults();
      requests = allocator_stats().system_calls;
    }
  }
  const auto settled = static_cast<double>(std::max<int64_t>(1, options.steps - 2));
  result.faults_per_step = static_cast<double>(page_faults() - faults) / settled;
  result.requests_per_step = static_cast<double>(allocator_stats().system_calls - requests) / settled;
  result.peak_tensor_bytes = allocator_stats().peak_bytes;
  EMULSION_CHECK(!times.empty(), config, "[bench] expected at least 2 steps, got {}", options.steps);
  std::sort(times.begin(), times.end());
  result.seconds_per_step = times[times.size() / 2];
  result.fastest_step = times.front();
  result.peak_memory_bytes = peak_memory_bytes();
  result.step_gflop = model->gflop();
  model.reset();  // two at once may not fit
  if (options.profile != ProfileDetail::none) result.operators = profile(options);
  result.peak_gflops = measure_peak(dtype_of(options.dtype));
  result.share_of_peak = result.step_gflop / result.seconds_per_step / result.peak_gflops;
  return result;
}

}  // namespace emulsion::train
