// Optimizers whose parameters know nothing of each other: a formula and a few tensors each.
#pragma once

#include <map>
#include <string>

#include "optim/config.h"

namespace emulsion::optim {

/// What a parameter has besides its weight: tensors by name, and the steps that it has taken.
struct Slot {
  std::map<std::string, Tensor> tensors;
  int64_t steps = 0;

  /// The tensor of that name, zeros of that shape at first, where the weight is.
  Tensor& get(const std::string& name, const Tensor& weight, at::IntArrayRef shape);
  /// One of the weight's shape.
  Tensor& like(const std::string& name, const Tensor& weight);
};

/// Changes the parameter's master. `rate` has the schedule and Param::lr_scale in it.
template <class Config>
void update(const Config& config, Param& param, const Tensor& grad, Slot& slot, double rate);

/// SGD, Lion, Adafactor, CAME, Adan, StableAdamW, Muon.
template <class Config>
class Simple : public Optimizer {
 public:
  Simple(const Config& config, std::vector<Param> params) : Optimizer(std::move(params)), config_(config), slots_(params_.size()) {}

  void step(double lr, double grad_scale, double ema_decay) override;
  NamedTensors state() const override;
  void load_state(const NamedTensors& state) override;

 private:
  void make_tensors(size_t i);

  Config config_;
  std::vector<Slot> slots_;
};

}  // namespace emulsion::optim
