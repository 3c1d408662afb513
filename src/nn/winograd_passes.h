// The passes of a Winograd convolution over raw memory; nn/winograd.cpp makes them an autograd function.
//
// The transformed arrays have 16 parts; each part is a matrix product of its own. Rows of a matrix are tiles (2 x 2 outputs) or,
// for weights, output channels.
#pragma once

#include "core/tensor.h"
#include "nn/attention_tiles.h"

namespace emulsion::nn::winograd {

using Ops = tiles::TileOps<float>;

/// G g G^T of a weight as the 16 right-hand matrices of a convolution. Lies in the calling thread's scratch memory: good until its
/// next one.
struct PackedWeight {
  const float* panels;  // part p at p * part
  int64_t part;
  int64_t in, out;      // of the convolution that it is for
  int64_t depth;        // rows of a matrix [in, out] that are packed together, as one operand
};
/// For the forward pass: matrices [in, out] of weight [out, in, 3, 3].
PackedWeight pack_forward(const Ops& ops, const Tensor& weight);
/// For the gradient towards the input: matrices [out, in], the weight turned by half a turn.
PackedWeight pack_backward(const Ops& ops, const Tensor& weight);

/// x [B, in, H, W] -> [B, out, H, W], both channels_last; bias [out] or undefined.
Tensor convolve(const Ops& ops, const Tensor& x, const PackedWeight& weight, const Tensor& bias);

struct WeightGradients {
  Tensor weight;  // [out, in, 3, 3], channels_last
  Tensor bias;    // [out]
};
/// Gradients from x [B, in, H, W] and the output's gradient [B, out, H, W], both channels_last.
WeightGradients weight_gradients(const Ops& ops, const Tensor& x, const Tensor& gradient);

}  // namespace emulsion::nn::winograd
