#include "optim/schedule_free.h"

#include <algorithm>
#include <cmath>

#include "optim/state_reader.h"

namespace emulsion::optim {

ScheduleFree::ScheduleFree(const ScheduleFreeConfig& config, std::vector<Param> params)
    : Optimizer(std::move(params)), config_(config) {
  const at::NoGradGuard no_grad;
  for (Param& param : params_) {
    param.ema = weight_of(param).detach().clone();
    slots_.push_back({param.ema.clone(), zeros_for(param)});
  }
}

void ScheduleFree::step(double lr, double grad_scale, double /*ema_decay*/) {
  const auto t = static_cast<double>(++steps_);
  largest_lr_ = std::max(largest_lr_, lr);
  const double weight = std::pow(t, config_.r) * std::pow(largest_lr_, config_.weight_lr_power);
  weight_sum_ += weight;
  const double share = weight_sum_ > 0 ? weight / weight_sum_ : 0;
  const double correction = 1 - std::pow(config_.beta2, t);
  for_each_gradient(grad_scale, [&](size_t i, const Tensor& grad) {
    Param& param = params_[i];
    const Slot& slot = slots_[i];
    const double rate = lr * param.lr_scale;
    if (param.decays && config_.weight_decay > 0) slot.z.sub_(param.master, rate * config_.weight_decay);
    slot.squares.mul_(config_.beta2).addcmul_(grad, grad, 1 - config_.beta2);
    slot.z.addcdiv_(grad, (slot.squares / correction).sqrt_().add_(config_.eps), -rate);
    param.ema.lerp_(slot.z, share);
    set_weight(param, slot.z.lerp(param.ema, config_.beta1));
  });
}

NamedTensors ScheduleFree::state() const {
  NamedTensors state;
  for (size_t i = 0; i < slots_.size(); ++i) {
    state.emplace_back(params_[i].name + ".x", params_[i].ema);
    state.emplace_back(params_[i].name + ".z", slots_[i].z);
    state.emplace_back(params_[i].name + ".exp_avg_sq", slots_[i].squares);
  }
  state.emplace_back("progress", at::tensor({largest_lr_, weight_sum_, static_cast<double>(steps_)}, at::kDouble));
  return state;
}

void ScheduleFree::load_state(const NamedTensors& state) {
  const at::NoGradGuard no_grad;
  const StateReader reader(state, "optimizer state");
  for (size_t i = 0; i < slots_.size(); ++i) {
    const at::IntArrayRef shape = held(params_[i]).sizes();
    params_[i].ema.copy_(reader.get(params_[i].name + ".x", shape));
    slots_[i].z.copy_(reader.get(params_[i].name + ".z", shape));
    slots_[i].squares.copy_(reader.get(params_[i].name + ".exp_avg_sq", shape));
  }
  const Tensor progress = reader.get("progress", {3}).to(at::kCPU, at::kDouble).contiguous();
  const double* values = progress.const_data_ptr<double>();
  largest_lr_ = values[0];
  weight_sum_ = values[1];
  steps_ = static_cast<int64_t>(values[2]);
}

}  // namespace emulsion::optim
