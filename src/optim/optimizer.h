// What all optimizers have, and which there are.
#pragma once

#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include "optim/param.h"

namespace emulsion::optim {

/// Changes its parameters by their gradients. A step does not depend on the number of threads.
class Optimizer {
 public:
  /// Throws: Error{internal} if a parameter's tensors do not fit together, or two parameters have one name.
  explicit Optimizer(std::vector<Param> params);
  virtual ~Optimizer() = default;

  /// The parameters, in the order given. Set `grad` of each before step; the other tensors stay.
  std::vector<Param>& params() { return params_; }
  const std::vector<Param>& params() const { return params_; }

  /// One step for every parameter that has a gradient: weights change by `lr` (times Param::lr_scale), gradients count
  /// `grad_scale` times, averages move by 1 - `ema_decay`. Gradients are only read.
  virtual void step(double lr, double grad_scale = 1, double ema_decay = 0) = 0;

  /// Whether each parameter's `ema` is its own doing, and what the steps lead to.
  virtual bool averages() const { return false; }

  /// Its own tensors by name: write them before the next step.
  virtual NamedTensors state() const = 0;
  /// Continues from a state, bit for bit. Throws: Error{not_found} for a tensor that is missing, Error{shape} for one that does not
  /// fit.
  virtual void load_state(const NamedTensors& state) = 0;

 protected:
  /// f(i, gradient) for every parameter with a gradient: float32, scaled, in the master's storage order, which is there
  /// meanwhile. Each runs in one thread, so that sums have one order.
  void for_each_gradient(double grad_scale, const std::function<void(size_t i, const Tensor& grad)>& f);
  /// For formulas that treat each number by itself: f(i, part, begin, end) for numbers begin..end-1, in storage order, of every
  /// parameter with a gradient. The pieces stay in the cache from the first operation to the last. `part` shares the parameter's
  /// memory; it has a master and a gradient in float32, scaled.
  void for_each_slice(double grad_scale, const std::function<void(size_t i, Param& part, int64_t begin, int64_t end)>& f);
  /// The weight and average of a parameter whose master, perhaps a borrowed one, has changed.
  static void follow(Param& param, double ema_decay);
  /// Float32 zeros with the weight's strides.
  static Tensor zeros_for(const Param& param);

  std::vector<Param> params_;
};

}  // namespace emulsion::optim
