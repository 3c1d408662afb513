// Attention: the one place that decides how it is computed.
#pragma once

#include "core/tensor.h"

namespace emulsion::nn {

/// What a query may see.
struct AttentionMask {
  /// Position i sees positions 0..i.
  bool causal = false;
  /// Undefined, or added to the scaled logits: float, broadcast to [B, heads, L, S]. -inf hides a key. It is given, not learned: it
  /// gets no gradient, and asking for one is an error.
  Tensor added = {};
};

/// Multi-head scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).
///
/// Shapes: q [B, L, D], k and v [B, S, D], D = heads x head width -> [B, L, D]; any strides with the last one 1 go uncopied.
/// A query that sees no key gives zeros, and gradients of zero.
///
/// On a CPU, float32, bfloat16 and float64 run through our own tiles (nn/attention_tiled.h); everything else through
/// at::scaled_dot_product_attention. docs/performance.md has the measurements behind that choice.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, const AttentionMask& mask = {});

}  // namespace emulsion::nn
