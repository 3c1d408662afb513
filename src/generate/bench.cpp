#include "generate/bench.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "core/device.h"
#include "generate/generate.h"
#include "models/filled.h"
#include "weights/catalogue.h"
#include "weights/load_model.h"

namespace emulsion::generate {
namespace {

using BenchClock = std::chrono::steady_clock;

double seconds_between(BenchClock::time_point begin, BenchClock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

/// Since this process was started; to a hundredth, as the system tells it. 0 where it does not.
double process_age() {
  std::ifstream file("/proc/self/stat");
  std::string field;
  std::getline(file, field, ')');  // the program's name may hold anything else
  constexpr int kStart = 22, kAfterName = 2;
  for (int i = kAfterName; i < kStart; ++i) file >> field;
  timespec now = {};
  if (!file || ::clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0;
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) -
         std::stod(field) / static_cast<double>(::sysconf(_SC_CLK_TCK));
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

models::Model model_of(const DrawingBenchOptions& options) {
  if (const auto path = weights::found(options.model)) return weights::load_model(*path, {.dtype = options.dtype});
  const models::Family& family = models::find_family(options.model);
  return models::filled_model(options.tiny ? models::tiny(family) : family, options.dtype);
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
  const models::Model model = model_of(options);
  StepTimes times(reporter);
  const double start = process_age();
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
  result.start_seconds = start + result.text_seconds;
  result.first_step = steps.front();
  if (steps.size() > 1) steps.erase(steps.begin());
  std::sort(steps.begin(), steps.end());
  result.seconds_per_step = steps[steps.size() / 2];
  result.decode_seconds = seconds_between(drawn, decoded);
  result.peak_memory_bytes = peak_memory_bytes();
  return result;
}

}  // namespace emulsion::generate
