// Attention on CPUs in tiles, so that the matrix of weights is never whole (Dao et al. 2022, arXiv:2205.14135; Dao 2023,
// arXiv:2307.08691): a block of queries meets one block of keys after the other, with a running maximum and sum in float32, and
// the backward pass computes the weights again from the two, which are all that is kept of them.
#pragma once

#include <string>

#include "core/tensor.h"
#include "nn/attention.h"

namespace emulsion::nn {

/// What the tiles are computed with: "brgemm" (bfloat16 products, AVX512-BF16 or AMX, through oneDNN), or float32 products with
/// "avx512", "avx2" or "portable" code, bfloat16 inputs widened on the way; for float64 "portable" only. "pairs" is brgemm's
/// order of operands with plain code: slow, for tests.
std::string default_tile_path(at::ScalarType dtype);

/// All paths that this machine can run for `dtype`.
std::vector<std::string> tile_paths(at::ScalarType dtype);

/// As nn::attention, for float32, bfloat16 and float64 on a CPU, through the given path.
///
/// The result depends neither on the number of threads nor on where tensors lie.
Tensor tiled_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, const AttentionMask& mask,
                       const std::string& path);

}  // namespace emulsion::nn
