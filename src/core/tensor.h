// The only header that brings ATen into other headers. Sources get the rest from cmake/pch.h.
#pragma once

#include <ATen/core/ivalue.h>
// ivalue.h first: Tensor.h alone leaves some of its inline definitions incomplete.
#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace emulsion {

using at::Tensor;

/// Tensors with their names, in a fixed order.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

}  // namespace emulsion
