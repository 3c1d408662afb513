// A tensor that trains, with everything that follows it.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"

namespace emulsion::optim {

/// All tensors have one shape; undefined ones are absent. The tensors are shared, not copied.
struct Param {
  std::string name;
  Tensor master = {};   // float32, dense; what the optimizer changes
  Tensor grad = {};     // float32 or bfloat16; set before each step; undefined: no step for it
  Tensor copy = {};     // bfloat16, the master's strides; rewritten after each change
  Tensor ema = {};      // float32, the master's strides; moving average of the master
  double lr_scale = 1;  // multiplies the learning rate
  bool decays = true;   // weight decay applies
};

/// The optimizer walks all tensors in storage order: checks dtype, shape and strides.
/// Throws: Error{internal} naming the parameter.
void check(const Param& param);

/// Rewrites `copy` from `master` in every parameter that has one.
void refresh_copies(const std::vector<Param>& params);

}  // namespace emulsion::optim
