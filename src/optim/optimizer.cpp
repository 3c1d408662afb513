#include "optim/optimizer.h"

#include <set>

#include "core/error.h"
#include "optim/chunks.h"

namespace emulsion::optim {

Optimizer::Optimizer(std::vector<Param> params) : params_(std::move(params)) {
  std::set<std::string> names;
  for (const Param& param : params_) {
    check(param);
    EMULSION_CHECK(names.insert(param.name).second, internal, "[optimizer] two parameters are called '{}'", param.name);
  }
}

void Optimizer::for_each_gradient(double grad_scale, const std::function<void(size_t, const Tensor&)>& f) {
  const auto count = static_cast<int64_t>(params_.size());
  // Two at least: alone, an operation would be shared between threads.
  for_each_chunk(std::max<int64_t>(2, count), [&](int64_t i) {
    const at::NoGradGuard no_grad;
    if (i >= count || !params_[i].grad.defined()) return;
    Param& param = params_[static_cast<size_t>(i)];
    const BorrowedMaster master(param);
    EMULSION_CHECK(param.grad.sizes() == param.master.sizes(), shape,
                   "[optimizer] {}: expected a gradient [{}], got [{}]", param.name,
                   fmt::join(param.master.sizes(), ","), fmt::join(param.grad.sizes(), ","));
    Tensor grad = at::empty_like(param.master).copy_(param.grad);
    f(static_cast<size_t>(i), grad_scale == 1 ? grad : grad.mul_(grad_scale));
  });
}

void Optimizer::follow(Param& param, double ema_decay) {
  set_weight(param, param.master);
  if (param.ema.defined()) param.ema.lerp_(param.master, 1 - ema_decay);
}

Tensor Optimizer::zeros_for(const Param& param) { return at::zeros_like(held(param), held(param).options().dtype(at::kFloat)); }

}  // namespace emulsion::optim
