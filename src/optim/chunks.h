// How a list of tensors is cut into pieces of work: fixed sizes, so that results do not depend on
// the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace emulsion::optim {

/// Elements begin..end-1, in storage order, of tensor `tensor`.
struct Chunk {
  int64_t tensor, begin, end;
};

inline constexpr int64_t kChunkSize = 32768;

std::vector<Chunk> chunks_of(const std::vector<int64_t>& sizes);

/// Calls f(chunk number) for 0..count-1 on ATen's threads, each of which takes the next when it is done with one. An operation
/// within f runs in its thread alone, even where there is one chunk.
void for_each_chunk(int64_t count, const std::function<void(int64_t)>& f);

}  // namespace emulsion::optim
