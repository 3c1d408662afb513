#include "optim/optimizer.h"

#include <set>

#include "core/error.h"
#include "optim/chunks.h"

namespace emulsion::optim {
namespace {

/// In float32; the gradient itself where nothing changes.
Tensor scaled(const Tensor& grad, double scale) {
  const Tensor exact = grad.to(at::kFloat);
  return scale == 1 ? exact : exact * scale;
}

}  // namespace

Optimizer::Optimizer(std::vector<Param> params) : params_(std::move(params)) {
  std::set<std::string> names;
  for (const Param& param : params_) {
    check(param);
    EMULSION_CHECK(names.insert(param.name).second, internal, "[optimizer] two parameters are called '{}'", param.name);
  }
}

void Optimizer::for_each_gradient(double grad_scale, const std::function<void(size_t, const Tensor&)>& f) {
  for_each_chunk(static_cast<int64_t>(params_.size()), [&](int64_t i) {
    const at::NoGradGuard no_grad;
    Param& param = params_[static_cast<size_t>(i)];
    if (!param.grad.defined()) return;
    const BorrowedMaster master(param);
    f(static_cast<size_t>(i), scaled(aligned_grad(param), grad_scale));
  });
}

void Optimizer::for_each_slice(double grad_scale, const std::function<void(size_t, Param&, int64_t, int64_t)>& f) {
  std::vector<Tensor> grads(params_.size());
  std::vector<int64_t> sizes(params_.size(), 0);
  std::vector<Chunk> whole;  // on other devices
  for (size_t i = 0; i < params_.size(); ++i) {
    if (!params_[i].grad.defined()) continue;
    grads[i] = aligned_grad(params_[i]);
    if (grads[i].is_cpu()) {
      sizes[i] = grads[i].numel();
    } else {
      whole.push_back({static_cast<int64_t>(i), 0, grads[i].numel()});
    }
  }
  std::vector<Chunk> chunks = chunks_of(sizes);
  chunks.insert(chunks.end(), whole.begin(), whole.end());
  for_each_chunk(static_cast<int64_t>(chunks.size()), [&](int64_t c) {
    const at::NoGradGuard no_grad;
    const auto [tensor, begin, end] = chunks[static_cast<size_t>(c)];
    const auto i = static_cast<size_t>(tensor);
    Param part = slice_of(params_[i], grads[i], begin, end);
    const BorrowedMaster master(part);
    part.grad = scaled(part.grad, grad_scale);
    f(i, part, begin, end);
  });
}

void Optimizer::follow(Param& param, double ema_decay) {
  set_weight(param, param.master);
  if (param.ema.defined()) param.ema.lerp_(param.master, 1 - ema_decay);
}

Tensor Optimizer::zeros_for(const Param& param) { return at::zeros_like(held(param), held(param).options().dtype(at::kFloat)); }

}  // namespace emulsion::optim
