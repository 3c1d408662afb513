#include "train/rehearsal.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/allocator.h"
#include "core/device.h"
#include "core/error.h"
#include "core/stop.h"
#include "train/method.h"
#include "train/trainer.h"

namespace emulsion::train {
namespace {

constexpr int64_t kSteps = 2;

/// Removed with all that is in it at the end of its life.
class TemporaryFolder {
 public:
  TemporaryFolder() : path_(std::filesystem::temp_directory_path() / fmt::format("emulsion-rehearsal-{}", ::getpid())) {}
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Pictures of the largest size.
data::Index largest(const data::Index& index, const data::BatchPlan& plan, int64_t wanted) {
  const auto& bucket = *std::ranges::max_element(plan.buckets(), {}, [](const auto& b) { return b.size.width * b.size.height; });
  std::set<int64_t> chosen;  // a sample stands there once per repeat
  for (const int64_t sample : bucket.samples) {
    if (static_cast<int64_t>(chosen.size()) < wanted) chosen.insert(sample);
  }
  data::Index few;
  for (const int64_t sample : chosen) few.samples.push_back(index.samples[static_cast<size_t>(sample)]);
  return few;
}

}  // namespace

Rehearsal rehearse(const RunConfig& config, const data::DataConfig& pictures, const data::Index& index,
                   const data::BatchPlan& plan) {
  const TemporaryFolder temporary;
  RunConfig little = config;
  little.output = temporary.path().string();
  little.preview.steps = std::min(little.preview.steps, kSteps);
  little.validation.every = 0;
  little.not_finite = NotFinite::stop;  // no checkpoint to go back to

  const data::Index few = largest(index, plan, std::max(kCacheBatch, kSteps * config.batch_size * config.accumulate));
  const data::BatchPlan order(few, pictures, config.batch_size, static_cast<uint64_t>(config.seed));
  const data::BatchSource source(few, pictures, order, static_cast<uint64_t>(config.seed));
  RunFolder folder(little);
  Reporter silent;
  const auto method = make_method(little);
  method->prepare(source, folder / "cache", silent);
  trim_allocator();
  Trainer trainer(little, *method, source, folder, silent);
  Rehearsal result;
  for (int64_t i = 0; i < kSteps; ++i) {
    if (stop_requested()) throw Error(ErrorCode::cancelled, "stopped while trying two steps; nothing was trained");
    result.seconds_per_step = trainer.step().seconds;
  }
  if (config.preview.every > 0) trainer.draw_preview();
  result.peak_bytes = peak_memory_bytes();
  return result;
}

}  // namespace emulsion::train
