#include "optim/simple.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "optim/state_reader.h"

namespace emulsion::optim {
namespace {

double root_mean_square(const Tensor& x) { return x.norm().item<double>() / std::sqrt(static_cast<double>(x.numel())); }

/// 1 / sqrt of the squared gradients that rows and columns stand for (Shazeer & Stern 2018, alg. 4).
Tensor from_factors(const Tensor& rows, const Tensor& columns) {
  const Tensor r = (rows / rows.mean(-1, true)).rsqrt_().unsqueeze(-1);
  return r * columns.unsqueeze(-2).rsqrt();
}

double adafactor_rate(const AdafactorConfig& config, const Slot& slot, double rate, const Tensor& weight) {
  if (config.relative_step) {
    const auto step = static_cast<double>(slot.steps);
    rate *= std::min(config.warmup_init ? 1e-6 * step : 1e-2, 1 / std::sqrt(step));
  }
  return config.scale_parameter ? rate * std::max(config.eps2, root_mean_square(weight)) : rate;
}

}  // namespace

Tensor& Slot::get(const std::string& name, const Tensor& weight, at::IntArrayRef shape) {
  Tensor& tensor = tensors[name];
  if (!tensor.defined()) tensor = at::zeros(shape, weight.options());
  return tensor;
}

/// torch.optim.SGD: weight decay is part of the gradient; the first momentum is the first gradient.
template <>
void update(const SgdConfig& config, Tensor& weight, const Tensor& grad, Slot& slot, double rate, bool decays) {
  Tensor g = decays && config.weight_decay > 0 ? grad + config.weight_decay * weight : grad;
  if (config.momentum > 0) {
    Tensor& momentum = slot.get("momentum", weight, weight.sizes());
    slot.steps == 1 ? void(momentum = g.clone()) : void(momentum.mul_(config.momentum).add_(g));
    g = config.nesterov ? g + config.momentum * momentum : momentum;
  }
  weight.sub_(g, rate);
}

/// Chen et al. 2023, alg. 2.
template <>
void update(const LionConfig& config, Tensor& weight, const Tensor& grad, Slot& slot, double rate, bool decays) {
  Tensor& average = slot.get("exp_avg", weight, weight.sizes());
  if (decays) weight.mul_(1 - rate * config.weight_decay);
  weight.sub_((average * config.beta1).add_(grad, 1 - config.beta1).sign_(), rate);
  average.mul_(config.beta2).add_(grad, 1 - config.beta2);
}

/// In the order of transformers.optimization.Adafactor, for which a convolution's kernel is a stack of matrices [kh, kw].
template <>
void update(const AdafactorConfig& config, Tensor& weight, const Tensor& grad, Slot& slot, double rate, bool decays) {
  rate = adafactor_rate(config, slot, rate, weight);
  const double keep = 1 - std::pow(static_cast<double>(slot.steps), -config.decay_rate);
  const Tensor squares = grad.square().add_(config.eps1);
  Tensor change;
  if (weight.dim() >= 2) {
    const auto sizes = weight.sizes();
    std::vector<int64_t> of_columns(sizes.begin(), sizes.end() - 2);
    of_columns.push_back(sizes.back());
    Tensor &rows = slot.get("rows", weight, sizes.slice(0, sizes.size() - 1)), &columns = slot.get("columns", weight, of_columns);
    rows.mul_(keep).add_(squares.mean(-1), 1 - keep);
    columns.mul_(keep).add_(squares.mean(-2), 1 - keep);
    change = from_factors(rows, columns) * grad;
  } else {
    Tensor& all = slot.get("exp_avg_sq", weight, weight.sizes());
    all.mul_(keep).add_(squares, 1 - keep);
    change = all.rsqrt() * grad;
  }
  change.div_(std::max(1.0, root_mean_square(change) / config.clip_threshold)).mul_(rate);
  if (config.beta1 > 0) {
    Tensor& average = slot.get("exp_avg", weight, weight.sizes());
    average.mul_(config.beta1).add_(change, 1 - config.beta1);
    change = average;
  }
  if (decays && config.weight_decay > 0) weight.sub_(weight, config.weight_decay * rate);
  weight.sub_(change);
}

template <class Config>
NamedTensors Simple<Config>::state() const {
  NamedTensors state;
  std::vector<int64_t> steps;
  for (size_t i = 0; i < slots_.size(); ++i) {
    for (const auto& [name, tensor] : slots_[i].tensors) state.emplace_back(params_[i].name + "." + name, tensor);
    steps.push_back(slots_[i].steps);
  }
  state.emplace_back("steps", at::tensor(steps, at::kLong));
  return state;
}

template <class Config>
void Simple<Config>::load_state(const NamedTensors& state) {
  const StateReader reader(state, "optimizer state");
  const Tensor steps = reader.get("steps", {static_cast<int64_t>(slots_.size())}).to(at::kCPU, at::kLong).contiguous();
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i] = Slot{};
    slots_[i].steps = steps.const_data_ptr<int64_t>()[i];
    if (slots_[i].steps == 0) continue;
    // One step on a copy says which tensors there are, and of which shapes.
    Slot model{.tensors = {}, .steps = 1};
    Tensor weight = at::zeros_like(params_[i].master);
    update(config_, weight, at::ones_like(weight), model, 0, false);
    for (const auto& [name, tensor] : model.tensors) {
      slots_[i].tensors[name] = reader.get(params_[i].name + "." + name, tensor.sizes()).to(tensor.options()).clone();
    }
  }
}

template class Simple<SgdConfig>;
template class Simple<LionConfig>;
template class Simple<AdafactorConfig>;

}  // namespace emulsion::optim
