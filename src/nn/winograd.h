// 3 x 3 convolutions by Winograd's minimal filtering: 2.25 times fewer multiplications than the sum itself.
#pragma once

#include <string>

#include "core/tensor.h"

namespace emulsion::nn {

/// Whether winograd_convolution takes this and is likely to be faster than at::conv2d: float32 on a CPU, stride 1, padding 1,
/// enough channels, and enough pixels to be worth a transformed weight (16/9 of the weight).
bool fits_winograd(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding);

/// conv2d(x, weight, bias, stride 1, padding 1), differentiable once; x [B, in, H, W], weight [out, in, 3, 3], bias [out] or
/// undefined; float32. Returns [B, out, H, W] in channels_last. Rounding: about twice the error of the plain sum.
/// `path`: one of tile_paths(at::kFloat) (nn/attention_tiled.h). Results are the same on any number of threads.
/// Throws: Error{shape}, Error{unsupported} for a path that this machine has not.
Tensor winograd_convolution(const Tensor& x, const Tensor& weight, const Tensor& bias, const std::string& path);

}  // namespace emulsion::nn
