// AdamW in one pass over memory: gradient scale, weight decay, moments, update, low-precision copy,
// moving average.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "optim/chunks.h"
#include "optim/param.h"

namespace emulsion::optim {

struct AdamWConfig {
  double lr = 1e-4;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  bool decay_norms_and_biases = true;

  template <class V>
  void fields(V& v) {
    v("lr", lr, "Learning rate, before the schedule.").min(0);
    v("beta1", beta1, "Decay of the gradient's moving average.").min(0).below(1);
    v("beta2", beta2, "Decay of the squared gradient's moving average.").min(0).below(1);
    v("eps", eps, "Added to the denominator of the update.").min(0);
    v("weight_decay", weight_decay, "Shrinks weights by lr * weight_decay per step.").min(0);
    v("decay_norms_and_biases", decay_norms_and_biases,
      "Whether weight decay also shrinks norms and biases, as in diffusers and kohya's scripts.");
  }
};

/// Numbers as torch.optim.AdamW (single tensor, float32). A step does not depend on the number of
/// threads.
class AdamW {
 public:
  /// Starts with moments of 0. Throws: Error{internal} if a parameter's tensors do not fit
  /// together, or two parameters have one name.
  AdamW(const AdamWConfig& config, std::vector<Param> params);

  /// The parameters, in the order given. Set `grad` of each before step; the other tensors stay.
  std::vector<Param>& params() { return params_; }
  const std::vector<Param>& params() const { return params_; }
  const AdamWConfig& config() const { return config_; }

  /// One step for every parameter that has a gradient: weights change by `lr` (times
  /// Param::lr_scale), gradients count `grad_scale` times, averages move by 1 - `ema_decay`.
  /// Gradients are only read.
  void step(double lr, double grad_scale = 1, double ema_decay = 0);

  /// "<name>.exp_avg", "<name>.exp_avg_sq" (float32) and "steps" (int64, one per parameter). The
  /// tensors are the optimizer's own: write them before the next step.
  NamedTensors state() const;

  /// Continues from a state, bit for bit. Throws: Error{not_found} for a tensor that is missing,
  /// Error{shape} for one that does not fit.
  void load_state(const NamedTensors& state);

 private:
  struct Slot {
    Tensor moment1, moment2;  // strides of the master
    int64_t steps = 0;
  };
  void step_on_cpu(double lr, double grad_scale, double ema_decay);
  void step_with_aten(size_t i, double lr, double grad_scale, double ema_decay);

  AdamWConfig config_;
  std::vector<Param> params_;
  std::vector<Slot> slots_;
};

}  // namespace emulsion::optim
