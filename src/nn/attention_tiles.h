// The inner loops of tiled attention, once per instruction set: what attention_tiled.cpp is made of.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"

namespace emulsion::nn::tiles {

/// Sums are kept in float32; in float64 for float64 (gradient checks).
template <class E>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};

/// The tile of logits of `rows` queries (rows) and `columns` keys (columns) in the forward pass.
template <class E>
struct SoftmaxTile {
  using Real = typename Accumulator<E>::type;
  int64_t rows, columns;
  Real* logits;      // [rows, ld], rewritten
  E* weights;        // [rows, ld], may be `logits`; zero from `columns` to the next multiple of `depth`
  int64_t ld;
  Real scale;        // of the logits, positive
  int64_t visible;   // query r sees the first visible + r * step columns
  int64_t step;
  Real* maximum;     // [rows], of the logits so far; -inf at first
  Real* sum;         // [rows], of exp(scale * (logit - maximum)) so far; 0 at first
  Real* output;      // [rows, ld_output], the unnormalised output so far, rescaled to the new maximum
  int64_t width, ld_output;
};

/// The tile of `rows` keys (rows) and `columns` queries (columns) in the backward pass.
template <class E>
struct GradientTile {
  using Real = typename Accumulator<E>::type;
  int64_t rows, columns;   // columns: a multiple of `lane`
  const Real* logits;      // [rows, ld]
  const Real* products;    // [rows, ld]: dO . v
  E* weights;              // [rows, ld], may be `logits`: exp(scale * (logit - maximum) - log_sum)
  E* gradient;             // [rows, ld], may be `products`: weights * (products - delta)
  int64_t ld;
  Real scale;
  const Real* maximum;     // [columns]: apart from log_sum, so that large logits lose no digits
  const Real* log_sum;     // [columns], +inf hides a query
  const Real* delta;       // [columns]: dO . o
  int64_t hidden;          // key r is hidden from the first hidden + r * step queries
  int64_t step;
};

/// One instruction set's loops over tiles of element type E.
///
/// A packed operand B [K, N] lies in panels of `panel` columns (the last one rounded up to `lane`), rows rounded up to `depth`;
/// what is added is zero. Only the functions here know the order within a panel.
template <class E>
struct TileOps {
  using Real = typename Accumulator<E>::type;
  const char* name;
  int64_t panel, lane, depth;
  /// C [M, N up to lane] = A [M, K up to depth] B, or C += A B.
  void (*multiply)(int64_t m, int64_t n, int64_t k, const E* a, int64_t lda, const E* packed, Real* c, int64_t ldc, bool add);
  /// The same with A [K, M]. Not for bfloat16 operands (null).
  void (*multiply_transposed)(int64_t m, int64_t n, int64_t k, const E* a, int64_t lda, const E* packed, Real* c, int64_t ldc, bool add);
  /// B = source [K, N].
  void (*pack)(int64_t k, int64_t n, const E* source, int64_t ld, E* packed);
  /// B = source^T, source [N, K].
  void (*pack_transposed)(int64_t k, int64_t n, const E* source, int64_t ld, E* packed);
  void (*softmax)(const SoftmaxTile<E>& tile);
  void (*gradient)(const GradientTile<E>& tile);
  /// Called by a thread after its last product.
  void (*finish)();

  int64_t up_to_lane(int64_t n) const { return (n + lane - 1) / lane * lane; }
  int64_t up_to_depth(int64_t k) const { return (k + depth - 1) / depth * depth; }
  int64_t packed_size(int64_t k, int64_t n) const { return up_to_depth(k) * up_to_lane(n); }
};

/// The paths that this machine can run for elements of type E, fastest first: "brgemm", "avx512", "avx2", "portable".
template <class E>
const std::vector<TileOps<E>>& available();

template <>
const std::vector<TileOps<float>>& available<float>();
template <>
const std::vector<TileOps<double>>& available<double>();
/// bfloat16 operands, float32 sums. Its "portable" path exists to test the order of the pairs on any machine; it is slow.
template <>
const std::vector<TileOps<c10::BFloat16>>& available<c10::BFloat16>();

/// The path of that name. `what` is for the message.
/// Throws: Error{unsupported} for a path that this machine has not.
template <class E>
const TileOps<E>& path_named(const std::string& path, const char* what) {
  for (const TileOps<E>& ops : available<E>()) {
    if (ops.name == path) return ops;
  }
  throw Error(ErrorCode::unsupported, fmt::format("[{}] expected a path of this machine, got '{}'; see tile_paths", what, path));
}

}  // namespace emulsion::nn::tiles
