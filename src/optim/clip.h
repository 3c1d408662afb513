// Gradient clipping: by the global norm as a factor that the optimizer applies in its own pass, or by tensor or number in place.
#pragma once

#include <array>
#include <utility>

#include "core/tensor.h"

namespace emulsion::optim {

enum class ClipBy { norm, tensor_norm, value };
constexpr auto enum_names(ClipBy) {
  return std::to_array<std::pair<ClipBy, const char*>>(
      {{ClipBy::norm, "norm"}, {ClipBy::tensor_norm, "tensor_norm"}, {ClipBy::value, "value"}});
}

struct Clip {
  double norm;   // of all gradients together; not finite if one of them is not
  double scale;  // what to multiply them by
};

/// Euclidean norm of all tensors together, summed in double. Undefined tensors count 0. The same
/// for any number of threads.
double global_norm(const std::vector<Tensor>& grads);

/// norm         scale = min(1, limit / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_
/// tensor_norm  the same for each tensor by itself, in place; scale 1
/// value        each number is kept within [-limit, limit], in place, as torch.nn.utils.clip_grad_value_; scale 1
/// A limit of 0 changes nothing. A norm that is not finite is the caller's to judge: then nothing is changed, and the scale is of no
/// use.
Clip clip(const std::vector<Tensor>& grads, double limit, ClipBy by = ClipBy::norm);

}  // namespace emulsion::optim
