// Linear layers on a CPU by our own products (nn/attention_tiles.h), differentiable once.
#pragma once

#include <string>

#include "core/tensor.h"

namespace emulsion::nn {

/// What LoRA adds to a weight: scale up down, never formed. Tensors of any type; undefined: nothing is added.
/// Shapes: down [r, K], up [N, r].
struct LowRank {
  Tensor down, up;
  double scale = 1;
};

/// x W^T + b + scale (x down^T) up^T, by our products where they fit and by at::linear elsewhere.
/// Shapes: x [..., K], weight [N, K], bias [N] or undefined -> [..., N].
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const LowRank& update = {});

/// float32 or bfloat16 on a CPU with vector code of ours, widths that fill its vectors.
bool fits_tiled_linear(const Tensor& x, const Tensor& weight);

/// `linear` by the path `path` of tile_paths(dtype); bfloat16 ("brgemm" or "pairs"), float32 or float64, K and N multiples of 16.
/// x down^T is rounded to the type of x, as is scale up; everything else of the update happens within the sums of the layer.
/// Throws: Error{shape} for operands that do not fit each other; Error{unsupported} for another path, and for a derivative of
/// the gradient.
Tensor tiled_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const LowRank& update, const std::string& path);

}  // namespace emulsion::nn
