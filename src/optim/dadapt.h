// D-Adaptation: an optimizer that finds its learning rate.
#pragma once

#include "optim/config.h"

namespace emulsion::optim {

/// D-Adaptation by Adam (Defazio & Mishchenko 2023, arXiv:2301.07733, alg. 5), as the authors' package has it.
class DAdaptAdam : public Optimizer {
 public:
  DAdaptAdam(const DAdaptAdamConfig& config, std::vector<Param> params);

  void step(double lr, double grad_scale, double ema_decay) override;
  NamedTensors state() const override;
  void load_state(const NamedTensors& state) override;

 private:
  struct Slot {
    Tensor moment1, moment2, s;
  };

  /// The gradient, with weight decay in it where that is coupled.
  Tensor decayed(const Param& param, const Tensor& grad) const;

  DAdaptAdamConfig config_;
  std::vector<Slot> slots_;
  double d_, numerator_ = 0;
  int64_t steps_ = 0;
};

}  // namespace emulsion::optim
