// How long a run with very many pictures takes to know them: the first start, which searches and decodes, and those after it.
//
//   ninja -C build/release bench_index && build/release/bench/bench_index [pictures, 1000000] [folder, bench-index]
//
// Makes the folder if it is not there: small pictures with captions in metadata.jsonl (as `emulsion` and datasets' imagefolder read
// them), a thousand a sub-folder, links to a few files. Every line tells the time and what the process holds in memory that is its
// own (RssAnon) at the end of it.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "core/allocator.h"
#include "core/device.h"
#include "data/index_file.h"
#include "data/plan.h"
#include "io/image.h"

namespace fs = std::filesystem;
using namespace emulsion;

namespace {

constexpr int64_t kPerFolder = 1000;
constexpr int64_t kLinks = 20000;  // of one file: file systems allow 65,000 (ext4) and more

void make(const fs::path& folder, int64_t count) {
  fs::path file;
  std::ofstream captions;
  for (int64_t i = 0; i < count; ++i) {
    const fs::path inside = folder / fmt::format("{:04}", i / kPerFolder);
    if (i % kPerFolder == 0) {
      fs::create_directories(inside);
      captions = std::ofstream(inside / "metadata.jsonl");
    }
    const fs::path picture = inside / fmt::format("{:07}.png", i);
    if (i % kLinks == 0) {
      file = picture;
      io::write_png(file, at::full({48 + i / kLinks % 5 * 16, 64, 3}, i / kLinks, at::kByte));
    } else {
      fs::create_hard_link(file, picture);
    }
    captions << fmt::format("{{\"file_name\": \"{:07}.png\", \"text\": \"a photo of thing number {}, on a table\"}}\n", i, i);
  }
}

/// Kilobytes, of /proc/self/status.
int64_t own_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::stoll(line.substr(8));
  }
  return 0;
}

void timed(const char* what, const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  fmt::print("{:<44} {:8.2f} s {:8.1f} MB\n", what, seconds, static_cast<double>(own_memory()) / 1e3);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t count = argc > 1 ? std::stoll(argv[1]) : 1'000'000;
  const fs::path folder = argc > 2 ? argv[2] : "bench-index";
  const fs::path file = folder / "index";
  const bool there = fs::exists(folder);
  data::DataConfig config;
  config.resolution = 64;
  config.sources.emplace_back().path = (folder / "pictures").string();
  if (!there) timed("making the pictures", [&] { make(folder / "pictures", count); });

  Reporter silent;
  data::Index index;
  timed("opening the index", [&] { index = data::open_index(config, file, silent); });
  if (index.samples.is_in_file()) {
    std::optional<data::BatchPlan> plan;
    timed("planning batches of 8", [&] { plan.emplace(index, config, 8, 1); });
    timed("a hundred batches", [&] {
      for (int64_t k = 0; k < 100; ++k) plan->batch(k * 997);
    });
  } else {
    timed("saving it", [&] { data::save_index(index, config, file); });
  }
  fmt::print("{} pictures, {} draws an epoch; file: {:.1f} MB; run the command again for a later start\n", index.samples.size(),
             index.draws(), static_cast<double>(fs::file_size(file)) / 1e6);
}
