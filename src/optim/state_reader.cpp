#include "optim/state_reader.h"

#include "core/error.h"

namespace emulsion::optim {

StateReader::StateReader(const NamedTensors& state, std::string what) : what_(std::move(what)) {
  for (const auto& [name, tensor] : state) tensors_[name] = &tensor;
}

const Tensor& StateReader::get(const std::string& name, at::IntArrayRef shape) const {
  const auto found = tensors_.find(name);
  EMULSION_CHECK(found != tensors_.end(), not_found,
                 "[{}] expected a tensor '{}', got none; the state is of another set of parameters",
                 what_, name);
  EMULSION_CHECK(found->second->sizes() == shape, shape, "[{}] {}: expected shape [{}], got [{}]",
                 what_, name, fmt::join(shape, ","), fmt::join(found->second->sizes(), ","));
  return *found->second;
}

}  // namespace emulsion::optim
