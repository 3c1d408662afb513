// Linear layers on a CPU by our own products (nn/attention_tiles.h), differentiable once.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"

namespace emulsion::nn {

/// x W^T + b, by our products where they fit and by at::linear elsewhere.
/// Shapes: x [..., K], weight [N, K], bias [N] or undefined -> [..., N].
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias);

/// Several weights with one input, which is packed and read once: as `linear` of each, and of one operation.
/// `biases`: one for each weight, or none at all.
std::vector<Tensor> linears(const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases);

/// float32 on a CPU with vector code of ours, widths that fill its vectors.
bool fits_tiled_linear(const Tensor& x, const Tensor& weight);

/// `linears` by the path `path` of tile_paths(dtype); float32 or float64, K and all N multiples of 16.
/// Throws: Error{shape} for operands that do not fit each other; Error{unsupported} for another path, and for a derivative of
/// the gradient.
std::vector<Tensor> tiled_linears(const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases,
                                  const std::string& path);

}  // namespace emulsion::nn
