// Sums over the rows of a matrix, compiled for several instruction sets: gradients of biases, means of channels.
#pragma once

#include <cstdint>

namespace emulsion::nn::products {

/// sums [width] = the sum of `rows` rows that are `ld` apart, plus what they hold if `add`.
void add_rows(const float* x, int64_t ld, int64_t rows, int64_t width, float* sums, bool add);
void add_rows(const double* x, int64_t ld, int64_t rows, int64_t width, double* sums, bool add);

}  // namespace emulsion::nn::products
