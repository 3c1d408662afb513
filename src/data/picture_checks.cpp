#include "data/picture_checks.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "core/error.h"
#include "core/random.h"
#include "core/stop.h"
#include "data/masks.h"
#include "io/atomic_file.h"
#include "io/image.h"

namespace emulsion::data {
namespace {

using std::filesystem::path;

constexpr std::string_view kTitle = "emulsion: pictures that can be read, 1\n";

/// Path, size and time of change.
std::string state_of(const path& file) {
  struct stat found = {};
  if (stat(file.c_str(), &found) != 0) return "";
  return fmt::format("{}\n{} {}.{}\n", std::filesystem::absolute(file).string(), found.st_size, found.st_mtim.tv_sec,
                     found.st_mtim.tv_nsec);
}

bool has_own_mask(const Sample& sample) { return !sample.mask.empty() && sample.mask != sample.path; }

uint64_t key_of(const Sample& sample) {
  return hash_name(state_of(sample.path) + (has_own_mask(sample) ? state_of(sample.mask) : ""));
}

/// What is wrong with a picture; "": nothing.
std::string fault_of(const Sample& sample) {
  try {
    io::read_image(sample.path);
    if (!sample.mask.empty()) read_mask(sample);
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

std::vector<uint64_t> noted_in(const path& record) {
  std::error_code none;
  if (!std::filesystem::exists(record, none)) return {};
  const std::string bytes = io::read_file(record);
  if (!bytes.starts_with(kTitle) || (bytes.size() - kTitle.size()) % sizeof(uint64_t) != 0) return {};
  std::vector<uint64_t> keys((bytes.size() - kTitle.size()) / sizeof(uint64_t));
  std::memcpy(keys.data(), bytes.data() + kTitle.size(), keys.size() * sizeof(uint64_t));
  std::ranges::sort(keys);
  return keys;
}

}  // namespace

PictureChecks::PictureChecks(path record) : record_(std::move(record)), good_(noted_in(record_)) {}

void PictureChecks::run(Index& index, Reporter& reporter, int threads) {
  std::vector<Sample>& samples = index.samples;
  std::vector<uint64_t> keys(samples.size());
  std::vector<size_t> open;  // pictures to look at
  for (size_t i = 0; i < samples.size(); ++i) {
    keys[i] = key_of(samples[i]);
    if (!std::ranges::binary_search(good_, keys[i])) open.push_back(i);
  }
  std::vector<std::string> faults(samples.size());
  if (!open.empty()) {
    std::atomic<size_t> next = 0, done = 0;
    std::atomic<bool> stopped = false;
    Progress progress(reporter, "Checking pictures", static_cast<int64_t>(open.size()), "pictures");
    const auto work = [&](bool caller) {
      for (size_t k; !stopped && (k = next++) < open.size();) {
        faults[open[k]] = fault_of(samples[open[k]]);
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
    EMULSION_CHECK(!stopped, cancelled, "stopped while checking pictures; nothing was changed");
    progress.advance(static_cast<int64_t>(open.size()));
  }
  std::vector<Sample> good;
  good_.clear();
  for (size_t i = 0; i < samples.size(); ++i) {
    if (faults[i].empty()) {
      good.push_back(std::move(samples[i]));
      good_.push_back(keys[i]);
    } else {
      index.problems.push_back(
          {samples[i].path, samples[i].path.string(), faults[i], "picture left out; replace it, or delete it"});
    }
  }
  std::ranges::sort(good_);
  samples = std::move(good);
}

void PictureChecks::save() const {
  io::AtomicFile file(record_);
  file.write(kTitle);
  file.write(good_.data(), good_.size() * sizeof(uint64_t));
  file.commit();
}

}  // namespace emulsion::data
