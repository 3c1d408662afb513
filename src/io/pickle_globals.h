// Internal to io: the names that a pickle of tensors may mention.
#pragma once

#include <string_view>

#include "core/tensor.h"

namespace emulsion::io {

/// What stands for the thing that the name means in Python.
enum class PickleRole {
  dict,               // calling it makes a dict
  parameter_dict,     // an object that holds its items in the attribute "_parameters"
  size,               // torch.Size: calling it gives its argument, a tuple
  rebuild_tensor,     // (storage, offset, size, stride, ...)
  rebuild_tensor_v3,  // (storage, offset, size, stride, requires_grad, hooks, dtype, ...)
  rebuild_parameter,  // (tensor, ...)
  storage,            // the class of a storage: says its dtype
  dtype,
  opaque,  // a harmless class or function; what it makes is skipped
};

struct PickleGlobal {
  std::string_view module, name;
  PickleRole role;
  at::ScalarType dtype = at::ScalarType::Undefined;  // of a storage or dtype

  bool operator==(const PickleGlobal&) const = default;
};

/// The row of the allow-list, or nullptr. Python 2's "__builtin__" is "builtins".
const PickleGlobal* find_pickle_global(std::string_view module, std::string_view name);

}  // namespace emulsion::io
