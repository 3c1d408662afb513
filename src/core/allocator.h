// A caching CPU allocator: a training step after the first asks the system for no memory.
//
// Fresh pages, not arithmetic, are the first bottleneck of training on a CPU: freeing and mapping large blocks in
// every step costs a page fault per 4 KiB.
#pragma once

#include <cstdint>

namespace emulsion {

/// Makes every CPU tensor allocated from now on come from the cache. Call once, before the first tensor.
void install_caching_allocator();

struct AllocatorStats {
  int64_t in_use_bytes = 0;    // in tensors now
  int64_t peak_bytes = 0;      // in tensors at once, since the start or the last trim
  int64_t cached_bytes = 0;    // free, kept for reuse
  int64_t system_calls = 0;    // blocks asked of the system since the start
};
AllocatorStats allocator_stats();

/// Gives the free blocks back to the system; between phases of different sizes.
void trim_allocator();

}  // namespace emulsion
