// How the passes of linear layers part their work among threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace emulsion::nn::products {

/// A piece of work: columns [begin, begin + count) of the result, part `part` of `parts` of its rows.
struct Share {
  int64_t begin, count, part, parts;
};

/// Rows [begin, end) that are part `part` of `parts`.
struct RowRange {
  int64_t begin, end;
  RowRange(int64_t rows, const Share& share) {
    const int64_t size = (rows + share.parts - 1) / share.parts;
    begin = std::min(rows, share.part * size);
    end = std::min(rows, begin + size);
  }
};

/// The size of the fewest equal pieces of `total` of at most `most`, a multiple of `multiple`.
inline int64_t even_piece(int64_t total, int64_t most, int64_t multiple) {
  const int64_t pieces = (total + most - 1) / most, size = (total + pieces - 1) / pieces;
  return (size + multiple - 1) / multiple * multiple;
}

/// Columns in as large blocks, multiples of `multiple` and at most `most`, as give every thread the same number; rows are parted
/// too where there are fewer blocks than threads.
inline std::vector<Share> shares_of(int64_t width, int64_t most, int64_t multiple) {
  const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  int64_t size = multiple, count = 0;
  for (; most >= multiple; most -= multiple) {
    size = even_piece(width, most, multiple);
    count = (width + size - 1) / size;
    if (count % threads == 0 || count >= 8 * threads) break;
  }
  const int64_t parts = count >= threads ? 1 : (threads + count - 1) / count;
  std::vector<Share> shares;
  for (int64_t begin = 0; begin < width; begin += size) {
    for (int64_t part = 0; part < parts; ++part) shares.push_back({begin, std::min(size, width - begin), part, parts});
  }
  return shares;
}

/// Calls f(begin, end) for ranges of `count` pieces of work on ATen's threads, each of which then finishes with `ops`.
template <class Ops, class F>
void for_each_piece(const Ops& ops, int64_t count, const F& f) {
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    f(begin, end);
    ops.finish();
  });
}

}  // namespace emulsion::nn::products
