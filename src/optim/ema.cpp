#include "optim/ema.h"

#include "optim/state_reader.h"

namespace emulsion::optim {

Ema::Ema(const EmaConfig& config, std::vector<Param>& params) : config_(config) {
  const at::NoGradGuard no_grad;
  for (Param& param : params) {
    param.ema = weight_of(param).detach().clone();
    shadows_.emplace_back(param.name, param.ema);
  }
}

double Ema::decay_at(int64_t update) const {
  const auto n = static_cast<double>(update);
  return std::min(config_.decay, (1 + n) / (10 + n));
}

double Ema::next_decay() { return decay_at(++updates_); }

NamedTensors Ema::state() const {
  NamedTensors state = shadows_;
  state.emplace_back("updates", at::full({1}, updates_, at::kLong));
  return state;
}

void Ema::load_state(const NamedTensors& state) {
  const at::NoGradGuard no_grad;
  const StateReader reader(state, "moving average");
  for (auto& [name, shadow] : shadows_) shadow.copy_(reader.get(name, shadow.sizes()));
  updates_ = reader.get("updates", {1}).item<int64_t>();
}

EmaSwap::EmaSwap(const std::vector<Param>& params) : params_(params) {
  const at::NoGradGuard no_grad;
  for (Param param : params_) {
    if (!param.ema.defined()) continue;
    if (param.rounds) held_[param.name] = param.copy.clone();
    exchange(param);
  }
}

EmaSwap::~EmaSwap() {
  const at::NoGradGuard no_grad;
  for (Param param : params_) {
    if (!param.ema.defined()) continue;
    param.rounds ? void(param.copy.copy_(held_.at(param.name))) : exchange(param);
  }
}

/// The average stays where it is if the weight's memory cannot hold it.
void EmaSwap::exchange(Param& param) {
  if (param.rounds) {
    param.copy.copy_(param.ema);
    return;
  }
  const Tensor weight = weight_of(param).clone();
  set_weight(param, param.ema);
  param.ema.copy_(weight);
}

}  // namespace emulsion::optim
