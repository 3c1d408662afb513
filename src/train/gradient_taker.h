// Gradients that are used and freed while the backward pass still runs, so that they never exist all at once.
#pragma once

#include <functional>
#include <vector>

#include "core/tensor.h"

namespace emulsion::train {

/// Calls `take(i, gradient)` as soon as the gradient of tensor i is complete, and leaves none in the tensor. The call comes from
/// within the backward pass: what it throws ends that pass.
class GradientTaker {
 public:
  using Take = std::function<void(size_t i, const Tensor& gradient)>;
  GradientTaker(const std::vector<Tensor*>& leaves, Take take);
  ~GradientTaker();
  GradientTaker(const GradientTaker&) = delete;
  GradientTaker& operator=(const GradientTaker&) = delete;

 private:
  std::vector<Tensor> leaves_;
};

}  // namespace emulsion::train
