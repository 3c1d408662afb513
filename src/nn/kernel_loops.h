// The loops of the fused operations on plain float32 arrays, compiled for several instruction sets; the best is chosen
// at load time.
#pragma once

#include <cstdint>

namespace emulsion::nn::kernels {

/// One image, channels last: `positions` rows of `channels` numbers.
struct NormShape {
  int64_t positions, channels, groups;
  int64_t size() const { return positions * channels; }
};

/// y = [silu of] weight * (x - mean) * rstd + bias; statistics per group in two passes (the second on differences from
/// the mean, so that nothing cancels), written to mean and rstd [groups].
void group_norm_forward(const NormShape& shape, const float* x, const float* weight, const float* bias, float eps, bool silu,
                        float* y, float* mean, float* rstd);

/// Gradients of group_norm_forward: dx like x; dweight, dbias [channels] of this image.
void group_norm_backward(const NormShape& shape, const float* x, const float* dy, const float* weight, const float* bias,
                         const float* mean, const float* rstd, bool silu, float* dx, float* dweight, float* dbias);

/// out[i] = x[i] * gelu(x[width + i]).
void geglu_forward(const float* x, int64_t width, float* out);
void geglu_backward(const float* x, const float* dout, int64_t width, float* dx);

/// out[i] = x[i] sigmoid(1.702 x[i]).
void quick_gelu_forward(const float* x, int64_t count, float* out);
void quick_gelu_backward(const float* x, const float* dout, int64_t count, float* dx);

}  // namespace emulsion::nn::kernels
