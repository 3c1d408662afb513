#include "models/filled.h"

#include <algorithm>
#include <cmath>

namespace emulsion::models {
namespace {

void repeat_into(const Tensor& flat, const Tensor& block) {
  for (int64_t begin = 0; begin < flat.numel(); begin += block.numel()) {
    const int64_t count = std::min(block.numel(), flat.numel() - begin);
    flat.narrow(0, begin, count).copy_(block.narrow(0, 0, count));
  }
}

void fill(nn::ParamStore& store, at::ScalarType dtype) {
  const Tensor block = Rng(0).normal({1 << 20}, Purpose::init);
  for (nn::Param& param : store.params()) {
    const Tensor value = at::empty(param.shape, dtype);
    if (param.shape.size() > 1) {
      const double fan_in = static_cast<double>(value.numel()) / static_cast<double>(param.shape[0]);
      repeat_into(value.view(-1), (block / std::sqrt(fan_in)).to(dtype));
    } else {
      value.fill_(param.path.ends_with("bias") ? 0.0 : 1.0);
    }
    store.assign(param, value);
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
