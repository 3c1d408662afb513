#include "optim/chunks.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

namespace emulsion::optim {

std::vector<Chunk> chunks_of(const std::vector<int64_t>& sizes) {
  std::vector<Chunk> chunks;
  for (size_t i = 0; i < sizes.size(); ++i) {
    for (int64_t begin = 0; begin < sizes[i]; begin += kChunkSize) {
      chunks.push_back({static_cast<int64_t>(i), begin, std::min(begin + kChunkSize, sizes[i])});
    }
  }
  return chunks;
}

void for_each_chunk(int64_t count, const std::function<void(int64_t)>& f) {
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) f(i);
  });
}

}  // namespace emulsion::optim
