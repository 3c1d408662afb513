// Looks tensors of a saved state up by name and refuses what does not fit.
#pragma once

#include <string>
#include <unordered_map>

#include "core/tensor.h"

namespace emulsion::optim {

class StateReader {
 public:
  /// `what` is for messages, e.g. "optimizer state". `state` must outlive the reader.
  StateReader(const NamedTensors& state, std::string what);

  /// Throws: Error{not_found} if there is no such tensor, Error{shape} if its shape differs.
  const Tensor& get(const std::string& name, at::IntArrayRef shape) const;

 private:
  std::string what_;
  std::unordered_map<std::string, const Tensor*> tensors_;
};

}  // namespace emulsion::optim
