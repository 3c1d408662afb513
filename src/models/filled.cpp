#include "models/filled.h"

#include <algorithm>
#include <cmath>

namespace emulsion::models {
namespace {

void fill(nn::ParamStore& store, at::ScalarType dtype) {
  const Tensor block = Rng(0).normal({1 << 20}, Purpose::init);
  for (nn::Param& param : store.params()) {
    Tensor value = at::full(param.shape, param.path.ends_with("bias") ? 0.0 : 1.0);
    const int64_t count = value.numel();
    if (param.shape.size() > 1) {
      const double fan_in = static_cast<double>(count) / static_cast<double>(param.shape[0]);
      value = (block / std::sqrt(fan_in)).repeat({count / block.numel() + 1}).narrow(0, 0, count).view(param.shape);
    }
    store.assign(param, value.to(dtype));
  }
}

}  // namespace

Model filled_model(const Family& family, at::ScalarType dtype, const std::vector<std::string>& parts) {
  Model model = declare(family);
  for (const nn::Component& part : model.components()) {
    if (parts.empty() || std::ranges::find(parts, part.name) != parts.end()) fill(*part.store, dtype);
  }
  return model;
}

}  // namespace emulsion::models
