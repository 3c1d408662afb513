// A run's index in a file: the next start opens it instead of searching, reading and decoding everything again.
#pragma once

#include <filesystem>

#include "core/progress.h"
#include "data/index.h"

namespace emulsion::data {

/// The index of `config`'s sources without the pictures that cannot be decoded. It is the one in `file`, which then stays on the
/// disk and takes no memory, while `save_index` wrote it for the same sources and no file or folder that it knows has changed
/// since (a look at each in `threads` threads). Otherwise the sources are searched, and what the file does not know is decoded.
/// Throws as `scan` and `check_pictures` do; stopped while decoding, it writes down what is known as good for the next time.
Index open_index(const DataConfig& config, const std::filesystem::path& file, Reporter& reporter, int threads = 2);

/// Writes what open_index gave, if it is new, and leaves the samples in the file. Throws: Error{io}.
void save_index(Index& index, const DataConfig& config, const std::filesystem::path& file);

}  // namespace emulsion::data
