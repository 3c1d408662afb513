// 3 x 3 convolutions of few pixels as one product with the weight as it lies in memory.
#pragma once

#include "core/tensor.h"

namespace emulsion::nn {

/// Whether gathered_convolution takes this and is likely to be faster than at::conv2d: float32 on a CPU with products of ours,
/// stride 1, padding 1, a weight in channels_last, and so few pixels that reading the weight is what costs.
bool fits_gathered_convolution(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding);

/// conv2d(x, weight, bias, stride 1, padding 1): each pixel's nine neighbours side by side, times [out, 9 in]. at::conv2d reorders
/// the whole weight in memory before each such product. x [B, in, H, W], weight [out, in, 3, 3], bias [out] or undefined.
/// Returns [B, out, H, W] in channels_last.
Tensor gathered_convolution(const Tensor& x, const Tensor& weight, const Tensor& bias);

}  // namespace emulsion::nn
