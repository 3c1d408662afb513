// Averages in 8 bits: each number is one of 256, times a scale that 256 neighbours share.
#pragma once

#include "core/tensor.h"
#include "optim/kernel_loops.h"

namespace emulsion::optim {

/// A moving average of a parameter: float32 with the weight's strides; or `codes` in the order of the weight's memory, with scales.
/// Source: Dettmers et al. 2021, arXiv:2110.02861; the 256 numbers: Dettmers 2015, arXiv:1511.04561.
struct Moment {
  Tensor values;  // float32 [...]; or uint8 [blocks, 256], the last block filled up
  Tensor scales;  // float32 [blocks]; none: `values` are float32

  bool eight_bit() const { return scales.defined(); }
};

/// Zeros for n numbers.
Moment eight_bit_zeros(int64_t n, at::Device device);

/// What `codes` stand for: float32 [n]. `with_sign`: numbers between -1 and 1, else between 0 and 1.
Tensor read_eight_bit(const Moment& moment, int64_t n, bool with_sign);
/// Rounds `values` (float32 [n]) to the nearest; half-way, to the lower one.
void write_eight_bit(const Moment& moment, const Tensor& values, bool with_sign);

const kernels::EightBitTable& eight_bit_table(bool with_sign);

}  // namespace emulsion::optim
