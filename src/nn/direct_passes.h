// The passes of a plain 3 x 3 convolution over raw memory, bfloat16 with float32 sums; nn/direct_convolution.cpp makes them an
// autograd function.
#pragma once

#include "core/tensor.h"
#include "nn/attention_tiles.h"

namespace emulsion::nn::direct {

using Ops = tiles::TileOps<c10::BFloat16>;

/// x [B, in, H, W], weight [out, in, 3, 3], both channels_last; bias [out] or undefined -> [B, out, H, W], channels_last.
Tensor convolve(const Ops& ops, const Tensor& x, const Tensor& weight, const Tensor& bias);

/// The gradient towards x [B, in, H, W] from that of the output [B, out, H, W], channels_last.
Tensor input_gradient(const Ops& ops, const Tensor& gradient, const Tensor& weight);

}  // namespace emulsion::nn::direct
