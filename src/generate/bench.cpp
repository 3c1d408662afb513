#include "generate/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/device.h"
#include "core/random.h"
#include "generate/generate.h"
#include "models/family.h"

namespace emulsion::generate {
namespace {

using BenchClock = std::chrono::steady_clock;

double seconds_between(BenchClock::time_point begin, BenchClock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

/// Hands everything on and notes when drawing began and each step ended.
class StepTimes : public Reporter {
 public:
  explicit StepTimes(Reporter& next) : next_(next) {}

  void begin(const std::string& what, int64_t total, const std::string& unit, int64_t done) override {
    if (times_.empty()) times_.push_back(BenchClock::now());
    next_.begin(what, total, unit, done);
  }
  void advance(int64_t done, const Figures& figures) override {
    times_.push_back(BenchClock::now());
    next_.advance(done, figures);
  }
  void end(const std::string& summary) override { next_.end(summary); }
  void note(const std::string& text) override { next_.note(text); }

  BenchClock::time_point began() const { return times_.front(); }
  std::vector<double> seconds() const {
    std::vector<double> seconds;
    for (size_t i = 1; i < times_.size(); ++i) seconds.push_back(seconds_between(times_[i - 1], times_[i]));
    return seconds;
  }

 private:
  Reporter& next_;
  std::vector<BenchClock::time_point> times_;
};

/// Kernels N(0, 1 / fan in) from one repeated block of numbers, which is quicker than drawing a billion; scales 1, biases 0.
void fill(nn::ParamStore& store) {
  const Tensor block = Rng(0).normal({1 << 20}, Purpose::init);
  for (nn::Param& param : store.params()) {
    Tensor value = at::full(param.shape, param.path.ends_with("bias") ? 0.0 : 1.0);
    const int64_t count = value.numel();
    if (param.shape.size() > 1) {
      const double fan_in = static_cast<double>(count) / static_cast<double>(param.shape[0]);
      value = block.repeat({count / block.numel() + 1}).narrow(0, 0, count).view(param.shape) / std::sqrt(fan_in);
    }
    store.assign(param, value);
  }
}

models::Model filled_model(const DrawingBenchOptions& options) {
  const models::Family& family = models::find_family(options.model);
  models::Model model = models::declare(options.tiny ? models::tiny(family) : family);
  for (const nn::Component& part : model.components()) fill(*part.store);
  model.convert(options.dtype);
  return model;
}

Request request_of(const DrawingBenchOptions& options) {
  Request request;
  request.prompts.assign(static_cast<size_t>(options.batch), "a lighthouse on a cliff at dusk, oil on canvas");
  request.negative = "blurry";
  request.sampler = options.sampler;
  request.schedule = "normal";
  request.steps = options.steps;
  request.cfg = options.cfg;
  request.width = request.height = options.size;
  return request;
}

}  // namespace

DrawingBenchResult bench_drawing(const DrawingBenchOptions& options, Reporter& reporter) {
  const at::NoGradGuard no_grad;
  set_compute_threads(options.threads);
  const models::Model model = filled_model(options);
  StepTimes times(reporter);
  const auto begin = BenchClock::now();
  const Tensor latents = sample_latents(model, request_of(options), times);
  const auto drawn = BenchClock::now();
  const models::Vae& vae = model.need_vae("drawing");
  const Tensor z = models::unscale_latents(vae.config(), latents.nan_to_num().clamp(-4, 4));
  vae.decode(z.to(options.dtype));
  const auto decoded = BenchClock::now();

  DrawingBenchResult result;
  std::vector<double> steps = times.seconds();
  result.text_seconds = seconds_between(begin, times.began());
  result.first_step = steps.front();
  if (steps.size() > 1) steps.erase(steps.begin());
  std::sort(steps.begin(), steps.end());
  result.seconds_per_step = steps[steps.size() / 2];
  result.decode_seconds = seconds_between(drawn, decoded);
  result.peak_memory_bytes = peak_memory_bytes();
  return result;
}

}  // namespace emulsion::generate
