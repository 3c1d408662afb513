// 3 x 3 convolutions in bfloat16 as nine products with shifted pictures.
#pragma once

#include <string>

#include "core/tensor.h"

namespace emulsion::nn {

/// Whether direct_convolution takes this and is likely to be faster than at::conv2d: bfloat16 on a CPU with instructions for it,
/// stride 1, padding 1, channels that fill them.
bool fits_direct_convolution(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding);

/// conv2d(x, weight, bias, stride 1, padding 1), differentiable once; x [B, in, H, W], weight [out, in, 3, 3] with multiples of 16
/// channels, bias [out] or undefined; bfloat16, sums in float32. Returns [B, out, H, W] in channels_last. The weight is read as it
/// lies and packed piece by piece in the cache; at::conv2d reorders all of it in memory first.
/// `path`: one of tile_paths(at::kBFloat16) (nn/attention_tiled.h). Results are the same on any number of threads.
/// Throws: Error{shape}, Error{unsupported} for a path that this machine has not.
Tensor direct_convolution(const Tensor& x, const Tensor& weight, const Tensor& bias, const std::string& path);

}  // namespace emulsion::nn
