#include "nn/param_store.h"

#include "core/error.h"

namespace emulsion::nn {

at::MemoryFormat layout_of(const Tensor& value) {
  return value.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

Param& ParamStore::declare(const std::string& path, std::vector<int64_t> shape) {
  EMULSION_CHECK(!by_path_.contains(path), internal, "[nn] '{}' is declared twice", path);
  params_.push_back(Param{path, std::move(shape)});
  by_path_[path] = &params_.back();
  return params_.back();
}

Leaf& ParamStore::declare_leaf(Leaf leaf) {
  leaves_.push_back(std::move(leaf));
  leaf_by_path_[leaves_.back().path] = &leaves_.back();
  return leaves_.back();
}

Param* ParamStore::find(std::string_view path) {
  const auto found = by_path_.find(std::string(path));
  return found == by_path_.end() ? nullptr : found->second;
}

Leaf* ParamStore::find_leaf(std::string_view path) {
  const auto found = leaf_by_path_.find(std::string(path));
  return found == leaf_by_path_.end() ? nullptr : found->second;
}

Param& ParamStore::at(std::string_view path) {
  Param* param = find(path);
  EMULSION_CHECK(param != nullptr, not_found, "[nn] no tensor named '{}'", path);
  return *param;
}

void ParamStore::assign(Param& param, const Tensor& value) {
  EMULSION_CHECK(value.sizes() == at::IntArrayRef(param.shape), shape,
                 "[{}] expected shape [{}], got [{}]", param.path, fmt::join(param.shape, ", "),
                 fmt::join(value.sizes(), ", "));
  param.value = value.detach().contiguous(layout_of(value));
}

void ParamStore::convert(at::ScalarType dtype, at::Device device) {
  for (Param& param : params_) {
    if (!param.value.defined()) continue;
    param.value = param.value.detach()
                      .to(at::TensorOptions().dtype(dtype).device(device))
                      .contiguous(layout_of(param.value));
  }
}

void ParamStore::set_requires_grad(bool on) {
  for (Param& param : params_) param.value.set_requires_grad(on);
}

int64_t ParamStore::numel() const {
  int64_t total = 0;
  for (const Param& param : params_) total += c10::multiply_integers(param.shape);
  return total;
}

}  // namespace emulsion::nn
