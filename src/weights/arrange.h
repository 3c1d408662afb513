// Tensors of files in the dtype and layout in which the networks compute.
#pragma once

#include "core/tensor.h"

namespace emulsion::weights {

/// `value` in `dtype` (Undefined: its own), 4-d ones as channels_last, others row-major. A view where nothing is to be done,
/// otherwise written once into memory of its own. One thread: the loaders run it on many tensors at once.
Tensor arranged(const Tensor& value, at::ScalarType dtype);

}  // namespace emulsion::weights
