#include "data/picture_checks.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>

#include "core/error.h"
#include "core/stop.h"
#include "data/masks.h"
#include "io/hash.h"
#include "io/image.h"

namespace emulsion::data {
namespace {

/// What looking at a picture gave: one of both; neither: nobody looked.
struct Finding {
  std::string fault;
  std::string content;
};

Finding look_at(const Sample& sample) {
  try {
    io::read_image(sample.path);
    if (!sample.mask.empty()) read_mask(sample);
    return {"", io::sha256_file(sample.path)};
  } catch (const std::exception& error) {
    return {error.what(), ""};
  }
}

/// The samples of an earlier index by state.
class Known {
 public:
  explicit Known(const SampleList& samples) : samples_(samples) {
    for (size_t i = 0; i < samples.size(); ++i) {
      if (const uint64_t state = samples.facts(i).state; state != 0) numbers_.emplace_back(state, i);
    }
    std::ranges::sort(numbers_);
  }

  /// The content's hash of the sample that was in that state.
  std::optional<std::string> content(uint64_t state) const {
    const auto found = std::ranges::lower_bound(numbers_, state, {}, &std::pair<uint64_t, size_t>::first);
    if (found == numbers_.end() || found->first != state) return std::nullopt;
    return samples_[found->second].content;
  }

 private:
  const SampleList& samples_;
  std::vector<std::pair<uint64_t, size_t>> numbers_;
};

}  // namespace

void check_pictures(Index& index, Reporter& reporter, const SampleList& known_samples, int threads) {
  const Known known(known_samples);
  std::vector<Finding> findings(index.samples.size());
  std::vector<size_t> open;  // pictures to look at
  for (size_t i = 0; i < findings.size(); ++i) {
    const auto content = known.content(index.samples.facts(i).state);
    content ? void(findings[i].content = *content) : open.push_back(i);
  }
  std::atomic<bool> stopped = false;
  if (!open.empty()) {
    std::atomic<size_t> next = 0, done = 0;
    Progress progress(reporter, "Checking pictures", static_cast<int64_t>(open.size()), "pictures");
    const auto work = [&](bool caller) {
      for (size_t k; !stopped && (k = next++) < open.size();) {
        findings[open[k]] = look_at(index.samples[open[k]]);
        ++done;
        if (!caller) continue;
        progress.advance(static_cast<int64_t>(done));
        if (stop_requested()) stopped = true;
      }
    };
    {
      std::vector<std::jthread> workers;
      for (int t = 1; t < threads; ++t) workers.emplace_back(work, false);
      work(true);
    }
    progress.advance(static_cast<int64_t>(done));
  }
  SampleList good;
  for (size_t i = 0; i < findings.size(); ++i) {
    Sample sample = index.samples[i];
    if (!findings[i].content.empty()) {
      sample.content = findings[i].content;
      good.push_back(sample);
    } else if (!findings[i].fault.empty()) {
      index.problems.push_back(
          {sample.path, sample.path.string(), findings[i].fault, "picture left out; replace it, or delete it"});
      watch_files(index, sample);
    }
  }
  index.samples = std::move(good);
  EMULSION_CHECK(!stopped, cancelled, "stopped while checking pictures");
}

}  // namespace emulsion::data
