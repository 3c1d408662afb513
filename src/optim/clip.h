// Gradient clipping by the global norm, as a factor that the optimizer applies in its own pass.
#pragma once

#include "core/tensor.h"

namespace emulsion::optim {

struct Clip {
  double norm;   // of all gradients together; not finite if one of them is not
  double scale;  // what to multiply them by
};

/// Euclidean norm of all tensors together, summed in double. Undefined tensors count 0. The same
/// for any number of threads.
double global_norm(const std::vector<Tensor>& grads);

/// scale = min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_; 1 if max_norm is 0.
/// A norm that is not finite is the caller's to judge: the scale is then of no use.
Clip clip(const std::vector<Tensor>& grads, double max_norm);

}  // namespace emulsion::optim
