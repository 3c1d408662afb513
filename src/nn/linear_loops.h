// Loops over rows of matrices, compiled for several instruction sets: sums of rows (gradients of biases, means of channels),
// float32 sums rounded to bfloat16, matrices turned.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace emulsion::nn::products {

/// sums [width] = the sum of `rows` rows that are `ld` apart, plus what they hold if `add`.
void add_rows(const float* x, int64_t ld, int64_t rows, int64_t width, float* sums, bool add);
void add_rows(const double* x, int64_t ld, int64_t rows, int64_t width, double* sums, bool add);

/// to [rows, width] = sums [rows, width] + bias [width] (may be null), rounded.
void narrow_rows(const float* sums, int64_t ld, int64_t rows, int64_t width, const c10::BFloat16* bias, c10::BFloat16* to,
                 int64_t ld_to);

/// to [width, rows] = sums [rows, width]^T + bias [rows] (may be null), rounded. `rows`: a multiple of 16; columns of `sums`
/// are read up to the next multiple of 16.
void narrow_turned(const float* sums, int64_t ld, int64_t rows, int64_t width, const c10::BFloat16* bias, c10::BFloat16* to,
                   int64_t ld_to);

/// to [width, rows] = x [rows, width]^T, zero from `rows` to `ld_to`. `width`: a multiple of 16.
void turn(const c10::BFloat16* x, int64_t ld, int64_t rows, int64_t width, c10::BFloat16* to, int64_t ld_to);

}  // namespace emulsion::nn::products
