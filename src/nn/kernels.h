// Operations with a fast path of our own beside ATen's, all differentiable.
#pragma once

#include "core/tensor.h"

namespace emulsion::nn::kernels {

/// Group normalisation, optionally followed by SiLU, as one operation.
/// Shapes: x [B, C, H, W]; weight, bias [C]. Returns x's shape and dtype.
Tensor group_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t groups, double eps,
                  bool silu);

/// GEGLU (Shazeer 2020, arXiv:2002.05202): the first half of the last dimension times gelu of the second.
/// Shapes: x [..., 2D] -> [..., D]. Exact (erf) gelu.
Tensor geglu(const Tensor& x);

/// x sigmoid(1.702 x), the activation of OpenAI's CLIP (Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2).
/// Shapes: any.
Tensor quick_gelu(const Tensor& x);

}  // namespace emulsion::nn::kernels
