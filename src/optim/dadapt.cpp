#include "optim/dadapt.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "optim/state_reader.h"

namespace emulsion::optim {

DAdaptAdam::DAdaptAdam(const DAdaptAdamConfig& config, std::vector<Param> params)
    : Optimizer(std::move(params)), config_(config), d_(config.d0) {
  for (const Param& param : params_) {
    const Tensor zeros = zeros_for(param);
    slots_.push_back({zeros, zeros.clone(), zeros.clone()});
  }
}

Tensor DAdaptAdam::decayed(const Param& param, const Tensor& grad) const {
  const bool coupled = param.decays && config_.weight_decay > 0 && !config_.decoupled;
  return coupled ? grad + config_.weight_decay * param.master : grad;
}

void DAdaptAdam::step(double lr, double grad_scale, double ema_decay) {
  if (lr == 0) return;
  const double root = std::sqrt(config_.beta2), k = static_cast<double>(++steps_);
  const double correction =
      config_.bias_correction ? std::sqrt(1 - std::pow(config_.beta2, k)) / (1 - std::pow(config_.beta1, k)) : 1;
  const double dlr = d_ * lr * correction;
  std::vector<double> numerators(params_.size(), 0), sizes(params_.size(), 0);
  for_each_gradient(grad_scale, [&](size_t i, const Tensor& given) {
    const Slot& slot = slots_[i];
    const double scale = params_[i].lr_scale;
    const Tensor grad = decayed(params_[i], given);
    numerators[i] = scale * dlr * (grad * (slot.s / slot.moment2.sqrt().add_(config_.eps))).sum().item<double>();
    slot.moment1.mul_(config_.beta1).add_(grad, scale * dlr * (1 - config_.beta1));
    slot.moment2.mul_(config_.beta2).addcmul_(grad, grad, 1 - config_.beta2);
    slot.s.mul_(root).add_(grad, dlr * (1 - root));
    sizes[i] = scale * slot.s.abs().sum().item<double>();
  });
  const double size = std::accumulate(sizes.begin(), sizes.end(), 0.0);
  if (size == 0) return;
  numerator_ = root * numerator_ + (1 - root) * std::accumulate(numerators.begin(), numerators.end(), 0.0);
  const double found = numerator_ / ((1 - root) * size);
  d_ = std::max(d_, config_.growth_rate > 0 ? std::min(found, d_ * config_.growth_rate) : found);

  for_each_gradient(grad_scale, [&](size_t i, const Tensor&) {
    Param& param = params_[i];
    if (param.decays && config_.decoupled) param.master.mul_(1 - param.lr_scale * config_.weight_decay * dlr);
    param.master.addcdiv_(slots_[i].moment1, slots_[i].moment2.sqrt().add_(config_.eps), -1);
    follow(param, ema_decay);
  });
}

NamedTensors DAdaptAdam::state() const {
  NamedTensors state;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const std::string& name = params_[i].name;
    state.emplace_back(name + ".exp_avg", slots_[i].moment1);
    state.emplace_back(name + ".exp_avg_sq", slots_[i].moment2);
    state.emplace_back(name + ".s", slots_[i].s);
  }
  state.emplace_back("distance", at::tensor({d_, numerator_, static_cast<double>(steps_)}, at::kDouble));
  return state;
}

void DAdaptAdam::load_state(const NamedTensors& state) {
  const at::NoGradGuard no_grad;
  const StateReader reader(state, "optimizer state");
  for (size_t i = 0; i < slots_.size(); ++i) {
    const std::string& name = params_[i].name;
    const at::IntArrayRef shape = held(params_[i]).sizes();
    slots_[i].moment1.copy_(reader.get(name + ".exp_avg", shape));
    slots_[i].moment2.copy_(reader.get(name + ".exp_avg_sq", shape));
    slots_[i].s.copy_(reader.get(name + ".s", shape));
  }
  const Tensor found = reader.get("distance", {3}).to(at::kCPU, at::kDouble).contiguous();
  const double* values = found.const_data_ptr<double>();
  d_ = values[0];
  numerator_ = values[1];
  steps_ = static_cast<int64_t>(values[2]);
}

}  // namespace emulsion::optim
