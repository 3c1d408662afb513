// Schedule-free AdamW: an optimizer whose average of all steps takes the place of a schedule.
#pragma once

#include "optim/config.h"

namespace emulsion::optim {

/// Schedule-free AdamW (Defazio et al. 2024, arXiv:2405.15682, alg. 1). Masters hold y, where gradients are taken; `ema` holds x,
/// the average that counts; z takes the steps.
class ScheduleFree : public Optimizer {
 public:
  ScheduleFree(const ScheduleFreeConfig& config, std::vector<Param> params);

  void step(double lr, double grad_scale, double ema_decay) override;
  bool averages() const override { return true; }
  NamedTensors state() const override;
  void load_state(const NamedTensors& state) override;

 private:
  struct Slot {
    Tensor z, squares;
  };

  ScheduleFreeConfig config_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
  double largest_lr_ = 0, weight_sum_ = 0;
};

}  // namespace emulsion::optim
