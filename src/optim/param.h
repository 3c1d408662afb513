// A tensor that trains, with everything that follows it.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"

namespace emulsion::optim {

/// All tensors have one shape; undefined ones are absent. The tensors are shared, not copied. The weight between two steps is one of
///   master           float32, perhaps with a bfloat16 `copy` for the network
///   copy and low     float32 all the same, in the memory of one: the network's bfloat16 weight and what it lacks
///   copy, `rounds`   bfloat16; each step's result is rounded up or down at random, so that small changes are not lost
struct Param {
  std::string name;
  Tensor master = {};     // float32, dense; what the optimizer changes. Where there is none, it lives during a step only
  Tensor grad = {};       // float32 or bfloat16; set before each step; undefined: no step for it
  Tensor copy = {};       // bfloat16, dense, the master's strides; rewritten after each change
  Tensor low = {};        // int16, the same strides: bits of the weight - (bits of the copy << 16)
  Tensor ema = {};        // float32, the same strides; moving average of the weight
  double lr_scale = 1;    // multiplies the learning rate
  bool decays = true;     // weight decay applies
  bool rounds = false;    // no master and no `low`: random rounding (Gupta et al. 2015, arXiv:1502.02551)
  uint32_t rounding = 0;  // where its random numbers begin; set before each step
};

/// The optimizer walks all tensors in storage order: checks dtype, shape and strides.
/// Throws: Error{internal} naming the parameter.
void check(const Param& param);

/// The tensor that holds the weight (or its larger part) at all times: for shape, strides and device.
const Tensor& held(const Param& param);
/// The weight in float32; the master itself where there is one.
Tensor weight_of(const Param& param);
/// Makes `value` (float32, the weight's strides) the weight; where `rounds`, by this step's random numbers.
void set_weight(Param& param, const Tensor& value);

/// A dense tensor's numbers as they lie in memory, [n]; an undefined tensor stays so.
Tensor in_memory(const Tensor& x);
/// The gradient (float32 or bfloat16) in the weight's storage order. Throws: Error{shape} naming the parameter.
Tensor aligned_grad(const Param& param);
/// Numbers begin..end-1 of a parameter, in storage order, in the memory of the whole; with the gradient `grad`.
Param slice_of(const Param& param, const Tensor& grad, int64_t begin, int64_t end);

/// Lets a parameter without a master have one while it lives.
class BorrowedMaster {
 public:
  explicit BorrowedMaster(Param& param) : param_(param), borrowed_(!param.master.defined()) {
    if (borrowed_) param_.master = weight_of(param_);
  }
  ~BorrowedMaster() {
    if (borrowed_) param_.master = Tensor();
  }
  BorrowedMaster(const BorrowedMaster&) = delete;
  BorrowedMaster& operator=(const BorrowedMaster&) = delete;

 private:
  Param& param_;
  bool borrowed_;
};

}  // namespace emulsion::optim
