#include "optim/prodigy.h"

#include <algorithm>
#include <cmath>

#include "optim/state_reader.h"

namespace emulsion::optim {

Prodigy::Prodigy(const ProdigyConfig& config, std::vector<Param> params)
    : Optimizer(std::move(params)), config_(config), d_(config.d0), d_max_(config.d0) {
  for (const Param& param : params_) {
    const Tensor zeros = zeros_for(param);
    slots_.push_back({weight_of(param).clone(), zeros, zeros.clone(), zeros.clone()});
  }
}

void Prodigy::step(double lr, double grad_scale, double ema_decay) {
  const double beta3 = config_.beta3 > 0 ? config_.beta3 : std::sqrt(config_.beta2);
  const auto k = static_cast<double>(++steps_);
  const double correction =
      config_.bias_correction ? std::sqrt(1 - std::pow(config_.beta2, k)) / (1 - std::pow(config_.beta1, k)) : 1;
  const double d = d_, dlr = d * lr * correction;
  std::vector<double> numerators(params_.size(), 0), denominators(params_.size(), 0);
  if (lr > 0) {
    for_each_gradient(grad_scale, [&](size_t i, const Tensor& grad) {
      const Slot& slot = slots_[i];
      numerators[i] = d / config_.d0 * dlr * (grad * (slot.start - params_[i].master)).sum().item<double>();
      slot.moment1.mul_(config_.beta1).add_(grad, d * (1 - config_.beta1));
      slot.moment2.mul_(config_.beta2).addcmul_(grad, grad, d * d * (1 - config_.beta2));
      slot.s.mul_(beta3).add_(grad, d / config_.d0 * (config_.safeguard_warmup ? d : dlr));
      denominators[i] = slot.s.abs().sum().item<double>();
    });
  }
  double numerator = 0, denominator = 0;
  for (size_t i = 0; i < params_.size(); ++i) {
    numerator += numerators[i];
    denominator += denominators[i];
  }
  if (denominator == 0) return;
  numerator_ = beta3 * numerator_ + numerator;
  const double found = config_.d_coef * numerator_ / denominator;
  if (d_ == config_.d0) d_ = std::max(d_, found);
  d_max_ = std::max(d_max_, found);
  d_ = config_.growth_rate > 0 ? std::min(d_max_, d_ * config_.growth_rate) : d_max_;

  for_each_gradient(grad_scale, [&](size_t i, const Tensor&) {
    Param& param = params_[i];
    const double rate = dlr * param.lr_scale;
    if (param.decays && config_.weight_decay > 0) param.master.sub_(param.master, config_.weight_decay * rate);
    param.master.addcdiv_(slots_[i].moment1, slots_[i].moment2.sqrt().add_(d_ * config_.eps), -rate);
    follow(param, ema_decay);
  });
}

NamedTensors Prodigy::state() const {
  NamedTensors state;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const std::string& name = params_[i].name;
    state.emplace_back(name + ".start", slots_[i].start);
    state.emplace_back(name + ".exp_avg", slots_[i].moment1);
    state.emplace_back(name + ".exp_avg_sq", slots_[i].moment2);
    state.emplace_back(name + ".s", slots_[i].s);
  }
  state.emplace_back("distance", at::tensor({d_, d_max_, numerator_, static_cast<double>(steps_)}, at::kDouble));
  return state;
}

void Prodigy::load_state(const NamedTensors& state) {
  const at::NoGradGuard no_grad;
  const StateReader reader(state, "optimizer state");
  for (size_t i = 0; i < slots_.size(); ++i) {
    const std::string& name = params_[i].name;
    const at::IntArrayRef shape = held(params_[i]).sizes();
    slots_[i].start.copy_(reader.get(name + ".start", shape));
    slots_[i].moment1.copy_(reader.get(name + ".exp_avg", shape));
    slots_[i].moment2.copy_(reader.get(name + ".exp_avg_sq", shape));
    slots_[i].s.copy_(reader.get(name + ".s", shape));
  }
  const Tensor found = reader.get("distance", {4}).to(at::kCPU, at::kDouble).contiguous();
  const double* values = found.const_data_ptr<double>();
  d_ = values[0];
  d_max_ = values[1];
  numerator_ = values[2];
  steps_ = static_cast<int64_t>(values[3]);
}

}  // namespace emulsion::optim
