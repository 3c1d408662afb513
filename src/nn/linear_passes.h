// The products of linear layers over raw memory; nn/linear.cpp makes them an autograd function.
//
// Several weights may share the input: each [N_i, K], with results of its own. Elements are float32 or float64; all matrices
// have neighbouring numbers within a row, and their widths are multiples of the path's lane.
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

template <class T>
using Matrices = std::vector<Matrix<T>>;

/// results[i] [M, N_i] = x [M, K] weights[i]^T + biases[i] [N_i]; all have a bias, or none (`biases` is empty).
template <class E>
void forward(const tiles::TileOps<E>& ops, const Matrix<const E>& x, const Matrices<const E>& weights,
             const std::vector<const E*>& biases, const Matrices<E>& results);

/// dx [M, K] = sum of gradients[i] [M, N_i] weights[i].
template <class E>
void input_gradient(const tiles::TileOps<E>& ops, const Matrices<const E>& gradients, const Matrices<const E>& weights,
                    const Matrix<E>& dx);

/// dweights[i] [N_i, K] = gradients[i]^T x, dbiases[i] [N_i] = the sum of the rows of gradients[i] (none if empty).
template <class E>
void weight_gradients(const tiles::TileOps<E>& ops, const Matrices<const E>& gradients, const Matrix<const E>& x,
                      const Matrices<E>& dweights, const std::vector<E*>& dbiases);

}  // namespace emulsion::nn::products
