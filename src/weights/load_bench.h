// How long loading a model takes here, beside plainly reading its files.
#pragma once

#include <cstdint>
#include <filesystem>

#include "weights/load_options.h"

namespace emulsion::weights {

struct LoadBenchResult {
  int64_t file_bytes = 0;
  double read_seconds = 0;  // one thread, into one small buffer, as `cat` does it
  double load_seconds = 0;  // until every page of every tensor has been looked at
  int64_t model_bytes = 0;  // of the tensors as they are in memory
  int64_t peak_memory_bytes = 0;
};

/// Reads all files of weights at `path`, then loads the model. `cold`: from the disk, not from memory, as far as the system
/// lets go of what it holds; otherwise the files are read once beforehand. Of a folder, all *.safetensors and *.bin count.
LoadBenchResult bench_load(const std::filesystem::path& path, const LoadOptions& options, bool cold);

}  // namespace emulsion::weights
