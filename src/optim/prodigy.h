// Prodigy: AdamW whose learning rate is an estimate of the distance to the solution, shared by all parameters.
#pragma once

#include "optim/config.h"

namespace emulsion::optim {

/// Mishchenko & Defazio 2023, arXiv:2306.06101, alg. 4, with the details of prodigyopt 1.1.2 (decoupled weight decay, slice_p = 1).
class Prodigy : public Optimizer {
 public:
  Prodigy(const ProdigyConfig& config, std::vector<Param> params);

  void step(double lr, double grad_scale, double ema_decay) override;
  NamedTensors state() const override;
  void load_state(const NamedTensors& state) override;

  /// The estimate d.
  double distance() const { return d_; }

 private:
  struct Slot {
    Tensor start, moment1, moment2, s;
  };

  ProdigyConfig config_;
  std::vector<Slot> slots_;
  double d_, d_max_, numerator_ = 0;
  int64_t steps_ = 0;
};

}  // namespace emulsion::optim
