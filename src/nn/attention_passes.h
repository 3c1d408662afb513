// The two passes of tiled attention over raw memory; nn/attention_tiled.cpp makes them an autograd function.
#pragma once

#include "core/tensor.h"
#include "nn/attention_tiles.h"

namespace emulsion::nn::tiles {

/// q [B, L, D], k and v [B, S, D], last stride 1. `added` undefined or [B, heads, L, S] of the sums' type, any strides.
struct AttentionInputs {
  Tensor q, k, v, added;
  int64_t heads;
  bool causal;

  int64_t batch() const { return q.size(0); }
  int64_t queries() const { return q.size(1); }
  int64_t keys() const { return k.size(1); }
  int64_t width() const { return q.size(2) / heads; }
};

/// The output [B, L, D], and per query the largest logit and the logarithm of the sum: [2, B, heads, L].
struct AttentionResult {
  Tensor output, statistics;
};

/// Elements of the tensors are T, of the tiles E.
template <class T, class E>
AttentionResult attention_forward(const TileOps<E>& ops, const AttentionInputs& in);

struct AttentionGradients {
  Tensor q, k, v;
};

template <class T, class E>
AttentionGradients attention_backward(const TileOps<E>& ops, const AttentionInputs& in, const AttentionResult& result,
                                      const Tensor& gradient);

}  // namespace emulsion::nn::tiles
