#include "weights/load_bench.h"

#include <fcntl.h>
#include <unistd.h>

#include <ATen/Parallel.h>

#include <chrono>
#include <functional>

#include "core/device.h"
#include "core/error.h"
#include "weights/load_model.h"

namespace emulsion::weights {
namespace {

namespace fs = std::filesystem;

template <class Work>
double seconds_of(const Work& work) {
  const auto began = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

std::vector<fs::path> files_of(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const auto& item : fs::recursive_directory_iterator(path)) {
    const std::string ending = item.path().extension().string();
    if (item.is_regular_file() && (ending == ".safetensors" || ending == ".bin")) files.push_back(item.path());
  }
  return files;
}

/// Gives `work` the descriptor of each file.
void with_each(const std::vector<fs::path>& files, const std::function<void(int)>& work) {
  for (const fs::path& path : files) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    EMULSION_CHECK(descriptor >= 0, io, "{}: cannot open; check path and permissions", path.string());
    work(descriptor);
    ::close(descriptor);
  }
}

void read_all(const std::vector<fs::path>& files) {
  std::string piece(1 << 17, '\0');  // as cat
  with_each(files, [&](int descriptor) {
    while (::read(descriptor, piece.data(), piece.size()) > 0) {
    }
  });
}

/// A request: pages that are not on the disk yet, or that another process has mapped, stay.
void drop_from_memory(const std::vector<fs::path>& files) {
  with_each(files, [](int descriptor) { (void)::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED); });
}

/// Looks at one byte of every page.
void touch(const models::Model& model) {
  constexpr int64_t kPage = 4096;
  for (const nn::Component& part : model.components()) {
    for (const nn::Param& param : part.store->params()) {
      const auto* bytes = static_cast<const volatile char*>(param.value.const_data_ptr());
      at::parallel_for(0, static_cast<int64_t>(param.value.nbytes()) / kPage, 256, [&](int64_t begin, int64_t end) {
        for (int64_t page = begin; page < end; ++page) (void)bytes[page * kPage];
      });
    }
  }
}

}  // namespace

LoadBenchResult bench_load(const fs::path& path, const LoadOptions& options, bool cold) {
  const std::vector<fs::path> files = files_of(path);
  const auto prepare = [&] { cold ? drop_from_memory(files) : read_all(files); };
  LoadBenchResult result;
  for (const fs::path& file : files) result.file_bytes += static_cast<int64_t>(fs::file_size(file));
  prepare();
  result.read_seconds = seconds_of([&] { read_all(files); });
  prepare();
  models::Model model;
  result.load_seconds = seconds_of([&] {
    model = load_model(path, options);
    touch(model);
  });
  for (const nn::Component& part : model.components()) {
    for (const nn::Param& param : part.store->params()) result.model_bytes += static_cast<int64_t>(param.value.nbytes());
  }
  result.peak_memory_bytes = peak_memory_bytes();
  return result;
}

}  // namespace emulsion::weights
