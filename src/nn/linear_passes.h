// The products of linear layers over raw memory; nn/linear.cpp makes them an autograd function.
//
// Elements are bfloat16, float32 or float64, sums float32 or float64. All matrices have neighbouring numbers within a row, and
// their widths are multiples of the path's lane. No result depends on the number of threads.
#pragma once

#include <vector>

#include "nn/attention_parts.h"

namespace emulsion::nn::products {

/// A matrix [rows, width].
template <class T>
struct Matrix {
  T* data;
  int64_t ld;  // from row to row
  int64_t rows, width;
};

/// One product of a sum of products.
template <class E>
struct Term {
  Matrix<const E> left, right;
};

template <class E>
using Terms = std::vector<Term<E>>;

template <class E>
using Sum = typename tiles::Accumulator<E>::type;

/// result [M, N] = the sum of left [M, K] right [N, K]^T over the terms, plus bias [N] unless it is null.
template <class E>
void forward(const tiles::TileOps<E>& ops, const Terms<E>& terms, const E* bias, const Matrix<E>& result);

/// result [M, K] = the sum of left [M, N] right [N, K] over the terms.
template <class E>
void input_gradient(const tiles::TileOps<E>& ops, const Terms<E>& terms, const Matrix<E>& result);

/// result [N, K] = left [M, N]^T right [M, K].
template <class E>
void weight_gradient(const tiles::TileOps<E>& ops, const Matrix<const E>& left, const Matrix<const E>& right,
                     const Matrix<Sum<E>>& result);

/// sums [N] = the rows of dy [M, N] added up; float32 and float64 only.
template <class E>
void bias_gradient(const Matrix<const E>& dy, E* sums);

// bfloat16: linear_passes_bfloat16.cpp.
template <>
void forward<c10::BFloat16>(const tiles::TileOps<c10::BFloat16>&, const Terms<c10::BFloat16>&, const c10::BFloat16*,
                            const Matrix<c10::BFloat16>&);
template <>
void input_gradient<c10::BFloat16>(const tiles::TileOps<c10::BFloat16>&, const Terms<c10::BFloat16>&, const Matrix<c10::BFloat16>&);
template <>
void weight_gradient<c10::BFloat16>(const tiles::TileOps<c10::BFloat16>&, const Matrix<const c10::BFloat16>&,
                                    const Matrix<const c10::BFloat16>&, const Matrix<float>&);

}  // namespace emulsion::nn::products
