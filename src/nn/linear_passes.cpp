#include "nn/linear_passes.h"

#include <ATen/Parallel.h>

#include "nn/linear_loops.h"
#include "nn/linear_shares.h"

namespace emulsion::nn::products {
using tiles::Scratch;
using tiles::TileOps;

namespace {

// A packed block of the right operand, kDepth x kColumns, and kRows rows of the left one stay in the second cache together; a
// panel and the rows of a register block in the first.
constexpr int64_t kRows = 96, kDepth = 320, kColumns = 128;

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

/// Calls f(share, scratch for a packed block) for all shares of a result of `width` columns.
template <class E, class F>
void for_each_block(const TileOps<E>& ops, int64_t width, const F& f) {
  const std::vector<Share> shares = shares_of(width, kColumns, ops.panel);
  for_each_piece(ops, static_cast<int64_t>(shares.size()), [&](int64_t begin, int64_t end) {
    const Scratch<E> packed(ops.packed_size(kDepth, kColumns));
    for (int64_t i = begin; i < end; ++i) f(shares[static_cast<size_t>(i)], packed.get());
  });
}

}  // namespace

template <class E>
void forward(const TileOps<E>& ops, const Terms<E>& terms, const E* bias, const Matrix<E>& result) {
  for_each_block(ops, result.width, [&](const Share& share, E* packed) {
    const RowRange range(result.rows, share);
    for (int64_t row = range.begin; bias != nullptr && row < range.end; ++row) {
      std::copy_n(bias + share.begin, share.count, result.data + row * result.ld + share.begin);
    }
    bool add = bias != nullptr;
    for (const Term<E>& term : terms) {
      const auto pack = [&](int64_t k, int64_t depth, E* to) {
        ops.pack_transposed(depth, share.count, term.right.data + share.begin * term.right.ld + k, term.right.ld, to);
      };
      add_product(ops, term.left, range, pack, packed, result.data + share.begin, result.ld, share.count, add);
      add = true;
    }
  });
}

template <class E>
void input_gradient(const TileOps<E>& ops, const Terms<E>& terms, const Matrix<E>& result) {
  for_each_block(ops, result.width, [&](const Share& share, E* packed) {
    bool add = false;
    for (const Term<E>& term : terms) {
      const auto pack = [&](int64_t row, int64_t count, E* to) {
        ops.pack(count, share.count, term.right.data + row * term.right.ld + share.begin, term.right.ld, to);
      };
      add_product(ops, term.left, RowRange(result.rows, share), pack, packed, result.data + share.begin, result.ld,
                  share.count, add);
      add = true;
    }
  });
}

template <class E>
void weight_gradient(const TileOps<E>& ops, const Matrix<const E>& left, const Matrix<const E>& right,
                     const Matrix<Sum<E>>& result) {
  const int64_t piece = even_piece(left.rows, kDepth, 1);
  for_each_block(ops, result.width, [&](const Share& share, E* packed) {
    const RowRange range(left.width, share);
    for (int64_t k = 0; k < left.rows; k += piece) {
      const int64_t depth = std::min(piece, left.rows - k);
      ops.pack(depth, share.count, right.data + k * right.ld + share.begin, right.ld, packed);
      for (int64_t row = range.begin; row < range.end; row += kRows) {
        ops.multiply_transposed(std::min(kRows, range.end - row), share.count, depth, left.data + k * left.ld + row, left.ld, packed,
                                result.data + row * result.ld + share.begin, result.ld, k > 0);
      }
    }
  });
}

template <class E>
void bias_gradient(const Matrix<const E>& dy, E* sums) {
  constexpr int64_t kWidth = 64;
  at::parallel_for(0, (dy.width + kWidth - 1) / kWidth, 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kWidth;
    add_rows(dy.data + first, dy.ld, dy.rows, std::min(end * kWidth, dy.width) - first, sums + first, /*add=*/false);
  });
}

#define EMULSION_INSTANTIATE(E)                                                                                              \
  template void forward<E>(const TileOps<E>&, const Terms<E>&, const E*, const Matrix<E>&);                                  \
  template void input_gradient<E>(const TileOps<E>&, const Terms<E>&, const Matrix<E>&);                                     \
  template void weight_gradient<E>(const TileOps<E>&, const Matrix<const E>&, const Matrix<const E>&, const Matrix<Sum<E>>&); \
  template void bias_gradient<E>(const Matrix<const E>&, E*);
EMULSION_INSTANTIATE(float)
EMULSION_INSTANTIATE(double)
#undef EMULSION_INSTANTIATE

}  // namespace emulsion::nn::products
