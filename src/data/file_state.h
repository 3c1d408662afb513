// Whether a file is still the one that was read.
#pragma once

#include <cstdint>
#include <filesystem>

namespace emulsion::data {

/// A number for a file's or folder's path, size and time of change: another one once any of them is another. 0, which is never
/// to be relied on, if the last change is so recent that a further one might leave the same time.
uint64_t file_state(const std::filesystem::path& file);

/// A number for several states together; 0 if one of them is.
uint64_t joined_states(uint64_t first, uint64_t second);

}  // namespace emulsion::data
