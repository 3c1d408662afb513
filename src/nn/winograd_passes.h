// The passes of a Winograd convolution over raw memory; nn/winograd.cpp makes them an autograd function.
//
// The transformed arrays have 16 parts; each part is a matrix product of its own. Rows of a matrix are tiles (2 x 2 outputs) or,
// for weights, output channels.
#pragma once

#include "core/tensor.h"
#include "nn/attention_tiles.h"

namespace emulsion::nn::winograd {

using Ops = tiles::TileOps<float>;

/// G g G^T of a weight [out, in, 3, 3]: 16 parts [out, in].
struct TransformedWeight {
  Tensor parts;
  int64_t out, in;
};
TransformedWeight transformed_weight(const Tensor& weight);

/// The 16 right-hand matrices of a convolution, packed: [in, out] for the forward pass; [out, in], turned by half a turn, for the
/// gradient towards the input.
struct PackedWeight {
  Tensor panels;  // 16 packed operands
  int64_t in, out;
};
PackedWeight pack_forward(const Ops& ops, const TransformedWeight& transformed);
PackedWeight pack_backward(const Ops& ops, const TransformedWeight& transformed);

/// x [B, in, H, W] -> [B, out, H, W], both channels_last; bias [out] or undefined.
Tensor convolve(const Ops& ops, const Tensor& x, const PackedWeight& weight, const Tensor& bias);

struct WeightGradients {
  Tensor weight;  // [out, in, 3, 3], channels_last
  Tensor bias;    // [out]
};
/// Gradients from x [B, in, H, W] and the output's gradient [B, out, H, W], both channels_last.
WeightGradients weight_gradients(const Ops& ops, const Tensor& x, const Tensor& gradient);

}  // namespace emulsion::nn::winograd
