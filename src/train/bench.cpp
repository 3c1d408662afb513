#include "train/bench.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>

#include "config/suggest.h"
#include "core/device.h"
#include "core/error.h"
#include "nn/flops.h"
#include "train/methods.h"
#include "train/trainer.h"

namespace emulsion::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

struct BenchModel {
  const char* name;
  models::ArchitectureConfig architecture;
  int64_t batch;
};

const std::vector<BenchModel>& table() {
  static const std::vector<BenchModel> models = {{"quickstart", {}, 16}};
  return models;
}

const BenchModel& find_model(const std::string& name) {
  for (const BenchModel& model : table()) {
    if (name == model.name) return model;
  }
  throw Error(ErrorCode::config, fmt::format("[bench] no model named '{}'{}; there are: {}", name,
                                             config::did_you_mean(name, bench_models()), fmt::join(bench_models(), ", ")));
}

models::Model random_model(const models::ArchitectureConfig& architecture) {
  const Rng rng(0);
  models::Model model;
  model.vae = models::new_vae(models::vae_config(architecture), rng);
  model.unet = models::new_unet(models::unet_config(architecture), rng);
  model.text_encoder = models::new_text_encoder(models::clip_text_config(architecture), rng);
  model.tokenizer = models::ClipTokenizer::truncated(architecture.text_merges);
  return model;
}

int64_t batch_of(const BenchOptions& options) {
  return options.batch > 0 ? options.batch : find_model(options.model).batch;
}

RunConfig config_of(const BenchOptions& options) {
  RunConfig config;
  config.steps = options.steps;
  config.dtype = options.dtype;
  config.ema.enabled = true;
  config.batch_size = batch_of(options);
  config.lanes = options.lanes;
  if (options.method == "lora") {
    config.method = LoraMethod{};
  } else {
    EMULSION_CHECK(options.method == "diffusion", config,
                   "[bench] no method named '{}'; there are: diffusion, lora", options.method);
  }
  return config;
}

}  // namespace

std::vector<std::string> bench_models() {
  std::vector<std::string> names;
  for (const BenchModel& model : table()) names.emplace_back(model.name);
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
  const auto part = [&](const Tensor& all) { return all.narrow(0, first, count); };
  return {part(in.latents), part(in.noise), part(in.timesteps), {}};
}

/// One model with its optimizer, stepping on random inputs.
class SteppingModel {
 public:
  SteppingModel(const BenchOptions& options, const RunConfig& config)
      : options_(options), flops_factor_(options.method == "lora" ? 2 : 3) {
    const BenchModel& chosen = find_model(options.model);
    models::ArchitectureConfig architecture = chosen.architecture;
    if (options.size > 0) architecture.resolution = options.size;
    models::Model model = random_model(architecture);
    batch_ = config.batch_size;
    channels_ = architecture.latent_channels;
    side_ = model.unet->net.config().sample_size;
    vocabulary_ = model.tokenizer->vocab_size();
    method_ = options.method == "lora" ? make_lora_method(config, std::move(model))
                                       : make_diffusion_method(config, std::move(model));
    learner_.emplace(config, *method_);
  }

  /// One optimizer step. -> its loss
  Tensor step(int64_t step) {
    const auto [inputs, ids] = inputs_of(step);
    std::atomic<double> flops = 0;
    const Loss loss = learner_->backward(batch_, 1, [&](int64_t first, int64_t count) {
      const nn::FlopCounter counter;
      Loss part = method_->replay(part_of(inputs, first, count), ids.narrow(0, first, count));
      flops += counter.flops();
      return part;
    });
    // Backward repeats the products for the inputs, and for the weights where they train.
    gflop_ = flops * flops_factor_ / 1e9;
    learner_->update(step);
    return loss.value;
  }

  double gflop() const { return gflop_; }

 private:
  std::pair<DenoisingInputs, Tensor> inputs_of(int64_t step) const {
    DenoisingInputs inputs;
    inputs.latents = rng_.normal({batch_, channels_, side_, side_}, Purpose::latent, step);
    inputs.noise = rng_.normal({batch_, channels_, side_, side_}, Purpose::noise, step);
    inputs.timesteps =
        diffusion::sample_timesteps(diffusion::TimestepSampling::stratified, rng_, step, 0, batch_, batch_, 1000);
    Stream words = rng_.stream(Purpose::caption, step);
    Tensor ids = at::empty({batch_, models::kClipLength}, at::kLong);
    for (int64_t i = 0; i < ids.numel(); ++i) ids.data_ptr<int64_t>()[i] = words.below(vocabulary_);
    return {inputs, ids};
  }

  const BenchOptions& options_;
  const Rng rng_{1};
  double flops_factor_, gflop_ = 0;
  int64_t batch_ = 0, channels_ = 0, side_ = 0, vocabulary_ = 0;
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
  SteppingModel model(options, config_of(options));

  std::vector<double> times;
  BenchResult result;
  reporter.begin("Timing", options.steps, "steps");
  for (int64_t step = 0; step < options.steps; ++step) {
    const auto start = Clock::now();
    const Tensor loss = model.step(step);
    if (step == 0) {
      result.first_loss = loss.item<double>();
      result.first_step_seconds = seconds_since(begin);
    } else {
      times.push_back(seconds_since(start));
    }
    reporter.advance(step + 1);
  }
  reporter.end();
  EMULSION_CHECK(!times.empty(), config, "[bench] expected at least 2 steps, got {}", options.steps);
  std::sort(times.begin(), times.end());
  result.seconds_per_step = times[times.size() / 2];
  result.fastest_step = times.front();
  result.peak_memory_bytes = peak_memory_bytes();
  result.step_gflop = model.gflop();
  if (options.profile != ProfileDetail::none) result.operators = profile(options);
  result.peak_gflops = measure_peak(dtype_of(options.dtype));
  result.share_of_peak = result.step_gflop / result.seconds_per_step / result.peak_gflops;
  return result;
}

}  // namespace emulsion::train
