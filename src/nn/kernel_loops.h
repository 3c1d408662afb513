// The loops of the fused operations on plain arrays, compiled for several instruction sets; the best is chosen at load
// time. T: float, or c10::BFloat16, whose numbers are widened a block at a time, computed with in float32 and rounded once.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace emulsion::nn::kernels {

/// One image, channels last: `positions` rows of `channels` numbers.
struct NormShape {
  int64_t positions, channels, groups;
  int64_t size() const { return positions * channels; }
};

/// y = [silu of] weight * (x - mean) * rstd + bias; statistics per group in two passes (the second on differences from
/// the mean, so that nothing cancels), written to mean and rstd [groups].
template <class T>
void group_norm_forward(const NormShape& shape, const T* x, const float* weight, const float* bias, float eps, bool silu, T* y,
                        float* mean, float* rstd);

/// Gradients of group_norm_forward: dx like x; dweight, dbias [channels] of this image.
template <class T>
void group_norm_backward(const NormShape& shape, const T* x, const T* dy, const float* weight, const float* bias,
                         const float* mean, const float* rstd, bool silu, T* dx, float* dweight, float* dbias);

/// Of `rows` rows of x [2 width]: out[i] = x[i] * gelu(x[width + i]).
template <class T>
void geglu_forward(const T* x, int64_t rows, int64_t width, T* out);
template <class T>
void geglu_backward(const T* x, const T* dout, int64_t rows, int64_t width, T* dx);

/// out[i] = x[i] sigmoid(1.702 x[i]).
template <class T>
void quick_gelu_forward(const T* x, int64_t count, T* out);
template <class T>
void quick_gelu_backward(const T* x, const T* dout, int64_t count, T* dx);

}  // namespace emulsion::nn::kernels
