#include "nn/linear_passes.h"

#include <ATen/Parallel.h>

#include "nn/linear_loops.h"

namespace emulsion::nn::products {
using tiles::Scratch;
using tiles::TileOps;

/// A piece of work: columns [begin, begin + count) of result `matrix`, part `part` of its rows.
struct Share {
  int64_t matrix, begin, count, part;
};

struct Shares {
  std::vector<Share> all;
  int64_t parts;  // of the rows
};

/// Rows [begin, end) that are part `part` of `parts`.
struct RowRange {
  int64_t begin, end;
  RowRange(int64_t rows, int64_t part, int64_t parts) {
    const int64_t size = (rows + parts - 1) / parts;
    begin = std::min(rows, part * size);
    end = std::min(rows, begin + size);
  }
};

namespace {

// A packed block of the right operand, kDepth x kColumns, and kRows rows of the left one stay in the second cache together; a
// panel and the rows of a register block in the first.
constexpr int64_t kRows = 96, kDepth = 320, kColumns = 128;

/// The size of the fewest equal pieces of `total` of at most `most`, a multiple of `multiple`.
int64_t even_piece(int64_t total, int64_t most, int64_t multiple) {
  const int64_t pieces = (total + most - 1) / most, size = (total + pieces - 1) / pieces;
  return (size + multiple - 1) / multiple * multiple;
}

std::vector<Share> columns_of(const std::vector<int64_t>& widths, int64_t most, int64_t panel) {
  std::vector<Share> shares;
  for (size_t i = 0; i < widths.size(); ++i) {
    const int64_t size = even_piece(widths[i], most, panel);
    for (int64_t begin = 0; begin < widths[i]; begin += size) {
      shares.push_back({static_cast<int64_t>(i), begin, std::min(size, widths[i] - begin), 0});
    }
  }
  return shares;
}

/// Columns in as large blocks as give every thread the same number; rows are parted too where there are fewer blocks than
/// threads. A number's sum has one order whatever the shares are.
Shares shares_of(const std::vector<int64_t>& widths, int64_t panel) {
  const auto threads = static_cast<size_t>(at::in_parallel_region() ? 1 : at::get_num_threads());
  std::vector<Share> columns;
  for (int64_t most = kColumns; most >= panel; most -= panel) {
    columns = columns_of(widths, most, panel);
    if (columns.size() % threads == 0 || columns.size() >= 8 * threads) break;
  }
  Shares shares{{}, static_cast<int64_t>((threads + columns.size() - 1) / std::max<size_t>(columns.size(), 1))};
  if (columns.size() >= threads) shares.parts = 1;
  for (const Share& share : columns) {
    for (int64_t part = 0; part < shares.parts; ++part) shares.all.push_back({share.matrix, share.begin, share.count, part});
  }
  return shares;
}

/// Calls f(share, scratch for a packed block) for all shares on ATen's threads.
template <class E, class F>
void for_each_share(const TileOps<E>& ops, const Shares& shares, const F& f) {
  at::parallel_for(0, static_cast<int64_t>(shares.all.size()), 1, [&](int64_t begin, int64_t end) {
    const Scratch<E> packed(ops.packed_size(kDepth, kColumns));
    for (int64_t i = begin; i < end; ++i) f(shares.all[static_cast<size_t>(i)], packed.get());
    ops.finish();
  });
}

/// C = A B or C += A B for rows `range`, B [depth, columns]; pack(row, count, to) packs rows of B.
template <class E, class Pack>
void add_product(const TileOps<E>& ops, const Matrix<const E>& a, const RowRange& range, const Pack& pack, E* packed, E* c, int64_t ldc,
                 int64_t columns, bool add) {
  const int64_t piece = even_piece(a.width, kDepth, 1);
  for (int64_t k = 0; k < a.width; k += piece) {
    const int64_t depth = std::min(piece, a.width - k);
    pack(k, depth, packed);
    for (int64_t row = range.begin; row < range.end; row += kRows) {
      ops.multiply(std::min(kRows, range.end - row), columns, depth, a.data + row * a.ld + k, a.ld, packed, c + row * ldc, ldc,
                   add || k > 0);
    }
  }
}

}  // namespace

template <class E>
void forward(const TileOps<E>& ops, const Matrix<const E>& x, const Matrices<const E>& weights, const std::vector<const E*>& biases,
             const Matrices<E>& results) {
  std::vector<int64_t> widths;
  for (const Matrix<E>& result : results) widths.push_back(result.width);
  const Shares shares = shares_of(widths, ops.panel);
  for_each_share(ops, shares, [&](const Share& share, E* packed) {
    const auto i = static_cast<size_t>(share.matrix);
    const Matrix<const E>& weight = weights[i];
    const Matrix<E>& result = results[i];
    const RowRange range(x.rows, share.part, shares.parts);
    for (int64_t row = range.begin; !biases.empty() && row < range.end; ++row) {
      std::copy_n(biases[i] + share.begin, share.count, result.data + row * result.ld + share.begin);
    }
    const auto pack = [&](int64_t k, int64_t depth, E* to) {
      ops.pack_transposed(depth, share.count, weight.data + share.begin * weight.ld + k, weight.ld, to);
    };
    add_product(ops, x, range, pack, packed, result.data + share.begin, result.ld, share.count, !biases.empty());
  });
}

template <class E>
void input_gradient(const TileOps<E>& ops, const Matrices<const E>& gradients, const Matrices<const E>& weights, const Matrix<E>& dx) {
  const Shares shares = shares_of({dx.width}, ops.panel);
  for_each_share(ops, shares, [&](const Share& share, E* packed) {
    for (size_t i = 0; i < weights.size(); ++i) {
      const auto pack = [&](int64_t row, int64_t count, E* to) {
        ops.pack(count, share.count, weights[i].data + row * weights[i].ld + share.begin, weights[i].ld, to);
      };
      add_product(ops, gradients[i], RowRange(dx.rows, share.part, shares.parts), pack, packed, dx.data + share.begin, dx.ld, share.count,
                  i > 0);
    }
  });
}

template <class E>
void weight_gradients(const TileOps<E>& ops, const Matrices<const E>& gradients, const Matrix<const E>& x,
                      const Matrices<E>& dweights, const std::vector<E*>& dbiases) {
  const Shares shares = shares_of({x.width}, ops.panel);
  const int64_t piece = even_piece(x.rows, kDepth, 1);
  for_each_share(ops, shares, [&](const Share& share, E* packed) {
    for (int64_t k = 0; k < x.rows; k += piece) {
      const int64_t depth = std::min(piece, x.rows - k);
      ops.pack(depth, share.count, x.data + k * x.ld + share.begin, x.ld, packed);
      for (size_t i = 0; i < gradients.size(); ++i) {
        const Matrix<const E>& dy = gradients[i];
        const RowRange range(dy.width, share.part, shares.parts);
        for (int64_t row = range.begin; row < range.end; row += kRows) {
          const int64_t rows = std::min(kRows, range.end - row);
          const E* const left = dy.data + k * dy.ld + row;
          ops.multiply_transposed(rows, share.count, depth, left, dy.ld, packed,
                                  dweights[i].data + row * dweights[i].ld + share.begin, dweights[i].ld, k > 0);
          if (!dbiases.empty() && share.begin == 0) add_rows(left, dy.ld, depth, rows, dbiases[i] + row, k > 0);
        }
      }
    }
  });
}

#define EMULSION_INSTANTIATE(E)                                                                                              \
  template void forward<E>(const TileOps<E>&, const Matrix<const E>&, const Matrices<const E>&, const std::vector<const E*>&, \
                           const Matrices<E>&);   \
  template void input_gradient<E>(const TileOps<E>&, const Matrices<const E>&, const Matrices<const E>&, const Matrix<E>&);  \
  template void weight_gradients<E>(const TileOps<E>&, const Matrices<const E>&, const Matrix<const E>&, const Matrices<E>&, \
                                    const std::vector<E*>&);
EMULSION_INSTANTIATE(float)
EMULSION_INSTANTIATE(double)

}  // namespace emulsion::nn::products
