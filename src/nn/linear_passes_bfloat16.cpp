// The passes of linear layers for bfloat16: sums of a block in float32 scratch, rounded once.
#include "nn/linear_loops.h"
#include "nn/linear_passes.h"

#include <ATen/Parallel.h>

#include "nn/linear_shares.h"

namespace emulsion::nn::products {

using c10::BFloat16;
using tiles::Scratch;
using PairOps = tiles::TileOps<BFloat16>;

namespace {

// kPacked numbers of a packed operand and kPairRows rows of the other stay in the second cache together.
constexpr int64_t kPairRows = 96, kPairDepth = 1280, kPacked = 256 * 1024, kNarrow = 32;

int64_t depth_of(const Terms<BFloat16>& terms) {
  int64_t depth = 0;
  for (const auto& term : terms) depth += term.left.width;
  return depth;
}

/// Calls f(k, depth) for the pieces of `total`, all but the last of them whole AMX tiles deep.
template <class F>
void for_depths(int64_t total, const F& f) {
  const int64_t piece = even_piece(total, kPairDepth, 32);
  for (int64_t k = 0; k < total; k += piece) f(k, std::min(piece, total - k));
}

/// sums [rows, width] (ld: a panel) = the sum of A_i B_i for one packed panel; left(term) [.., K_i].
template <class Left>
void panel_sums(const PairOps& ops, const Terms<BFloat16>& terms, const Left& left, int64_t rows, int64_t width,
                const BFloat16* packed, float* sums) {
  bool add = false;
  for (const auto& term : terms) {
    const Matrix<const BFloat16> a = left(term);
    for_depths(a.width, [&](int64_t k, int64_t depth) {
      ops.multiply(rows, width, depth, a.data + k, a.ld, packed, sums, ops.panel, add);
      packed += ops.packed_size(depth, width);
      add = true;
    });
  }
}

Matrix<const BFloat16> from_row(const Matrix<const BFloat16>& m, int64_t row) {
  return {m.data + row * m.ld, m.ld, m.rows - row, m.width};
}

/// Packs the right operands; pack(term, column, columns, k, depth, to) packs a piece of one.
template <class Pack>
void pack_and_multiply(const PairOps& ops, const Terms<BFloat16>& terms, const Pack& pack, const BFloat16* bias,
                       const Matrix<BFloat16>& result) {
  const int64_t depth = depth_of(terms);
  const int64_t most = std::clamp(kPacked / depth / kNarrow * kNarrow, kNarrow, 8 * ops.panel);
  const std::vector<Share> shares = shares_of(result.width, most, kNarrow);
  for_each_piece(ops, static_cast<int64_t>(shares.size()), [&](int64_t begin, int64_t end) {
    const Scratch<BFloat16> packed(depth * most);
    const Scratch<float> sums(kPairRows * ops.panel);
    for (auto share = shares.begin() + begin; share < shares.begin() + end; ++share) {
      BFloat16* to = packed.get();
      const int64_t last = share->begin + share->count;
      for (int64_t column = share->begin; column < last; column += ops.panel) {
        for (const auto& term : terms) {
          for_depths(term.left.width, [&](int64_t k, int64_t count) {
            const int64_t columns = std::min(ops.panel, last - column);
            pack(term, column, columns, k, count, to);
            to += ops.packed_size(count, columns);
          });
        }
      }
      const RowRange range(result.rows, *share);
      for (int64_t row = range.begin; row < range.end; row += kPairRows) {
        const int64_t rows = std::min(kPairRows, range.end - row);
        for (int64_t column = share->begin; column < last; column += ops.panel) {
          const int64_t columns = std::min(ops.panel, last - column);
          panel_sums(ops, terms, [&](const auto& term) { return from_row(term.left, row); }, rows, columns,
                     packed + (column - share->begin) * depth, sums.get());
          narrow_rows(sums.get(), ops.panel, rows, columns, bias == nullptr ? nullptr : bias + column,
                      result.data + row * result.ld + column, result.ld);
        }
      }
    }
  });
}

/// Panels of the left operands, turned: room for each is `depth` x a panel.
void pack_left(const PairOps& ops, const Terms<BFloat16>& terms, int64_t rows, BFloat16* packed) {
  const int64_t depth = depth_of(terms), panels = (rows + ops.panel - 1) / ops.panel;
  at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t row = panel * ops.panel, count = std::min(ops.panel, rows - row);
      BFloat16* to = packed + panel * ops.panel * depth;
      for (const auto& term : terms) {
        for_depths(term.left.width, [&](int64_t k, int64_t piece) {
          ops.pack_transposed(piece, count, term.left.data + row * term.left.ld + k, term.left.ld, to);
          to += ops.packed_size(piece, count);
        });
      }
    }
  });
}

/// result^T = the sum of right left^T: for few rows, so that they are packed and not the weight.
void forward_turned(const PairOps& ops, const Terms<BFloat16>& terms, const BFloat16* bias, const Matrix<BFloat16>& result) {
  const int64_t depth = depth_of(terms);
  const Scratch<BFloat16> packed(depth * (result.rows + ops.panel));
  pack_left(ops, terms, result.rows, packed.get());
  const std::vector<Share> shares = shares_of(result.width, kPairRows, ops.lane);
  for_each_piece(ops, static_cast<int64_t>(shares.size()), [&](int64_t begin, int64_t end) {
    const Scratch<float> sums(kPairRows * ops.panel);
    for (auto share = shares.begin() + begin; share < shares.begin() + end; ++share) {
      const int64_t panels = (result.rows + ops.panel - 1) / ops.panel;
      for (int64_t panel = share->part; panel < panels; panel += share->parts) {
        const int64_t row = panel * ops.panel, rows = std::min(ops.panel, result.rows - row);
        panel_sums(ops, terms, [&](const auto& term) { return from_row(term.right, share->begin); }, share->count, rows,
                   packed + row * depth, sums.get());
        narrow_turned(sums.get(), ops.panel, share->count, rows, bias == nullptr ? nullptr : bias + share->begin,
                      result.data + row * result.ld + share->begin, result.ld);
      }
    }
  });
}

}  // namespace

template <>
void forward<BFloat16>(const PairOps& ops, const Terms<BFloat16>& terms, const BFloat16* bias, const Matrix<BFloat16>& result) {
  const int64_t depth = depth_of(terms);
  // Turning a number of the result costs about as much as packing 1.5 numbers.
  if (result.rows * (2 * depth + 3 * result.width) < 2 * depth * result.width) return forward_turned(ops, terms, bias, result);
  const auto pack = [&](const auto& term, int64_t column, int64_t columns, int64_t k, int64_t count, BFloat16* to) {
    ops.pack_transposed(count, columns, term.right.data + column * term.right.ld + k, term.right.ld, to);
  };
  pack_and_multiply(ops, terms, pack, bias, result);
}

template <>
void input_gradient<BFloat16>(const PairOps& ops, const Terms<BFloat16>& terms, const Matrix<BFloat16>& result) {
  const auto pack = [&](const auto& term, int64_t column, int64_t columns, int64_t k, int64_t count, BFloat16* to) {
    ops.pack(count, columns, term.right.data + k * term.right.ld + column, term.right.ld, to);
  };
  pack_and_multiply(ops, terms, pack, nullptr, result);
}

template <>
void weight_gradient<BFloat16>(const PairOps& ops, const Matrix<const BFloat16>& left, const Matrix<const BFloat16>& right,
                               const Matrix<float>& result) {
  const int64_t ld = ops.up_to_depth(left.rows), piece = even_piece(left.rows, kPairDepth, 32);
  const Scratch<BFloat16> turned(left.width * ld);
  const int64_t blocks = (left.width + ops.panel - 1) / ops.panel;
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * ops.panel, count = std::min(end * ops.panel, left.width) - first;
    turn(left.data + first, left.ld, left.rows, count, turned + first * ld, ld);
  });
  const int64_t most = std::clamp(kPacked / piece / kNarrow * kNarrow, kNarrow, 8 * ops.panel);
  const std::vector<Share> shares = shares_of(result.width, most, kNarrow);
  for_each_piece(ops, static_cast<int64_t>(shares.size()), [&](int64_t begin, int64_t end) {
    const Scratch<BFloat16> packed(piece * most);
    for (auto share = shares.begin() + begin; share < shares.begin() + end; ++share) {
      const RowRange range(left.width, *share);
      for_depths(left.rows, [&](int64_t k, int64_t depth) {
        ops.pack(depth, share->count, right.data + k * right.ld + share->begin, right.ld, packed.get());
        for (int64_t row = range.begin; row < range.end; row += kPairRows) {
          ops.multiply(std::min(kPairRows, range.end - row), share->count, depth, turned + row * ld + k, ld, packed.get(),
                       result.data + row * result.ld + share->begin, result.ld, k > 0);
        }
      });
    }
  });
}

}  // namespace emulsion::nn::products
