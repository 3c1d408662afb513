// AdamW in one pass over memory: gradient scale, weight decay, moments (float32 or 8 bits), update, the bfloat16 weight, moving
// average.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "core/tensor.h"
#include "optim/config_fields.h"
#include "optim/eight_bit.h"
#include "optim/optimizer.h"

namespace emulsion::optim {

struct AdamWConfig {
  static constexpr const char* kType = "adamw";
  static constexpr const char* kDoc = "AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), as torch.optim.AdamW.";
  double lr = 1e-4;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  bool decay_norms_and_biases = true;

  double state_bytes() const { return 8; }
  template <class V>
  void fields(V& v) {
    rate_field(v, lr);
    moment_fields(v, beta1, beta2, eps);
    decay_field(v, weight_decay);
    v("decay_norms_and_biases", decay_norms_and_biases,
      "Whether weight decay also shrinks norms and biases, as in diffusers and kohya's scripts.");
  }
};

/// Numbers as torch.optim.AdamW (single tensor, float32); with moments in 8 bits as bitsandbytes' AdamW8bit.
class AdamW : public Optimizer {
 public:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  /// Starts with moments of 0, in 8 bits for parameters of at least `eight_bit_from` numbers.
  AdamW(const AdamWConfig& config, std::vector<Param> params, int64_t eight_bit_from = kNever);

  const AdamWConfig& config() const { return config_; }

  void step(double lr, double grad_scale = 1, double ema_decay = 0) override;

  /// "<name>.exp_avg", "<name>.exp_avg_sq" (float32; or uint8 with "<name>.exp_avg.scale", ...) and "steps" (int64, one per
  /// parameter).
  NamedTensors state() const override;
  void load_state(const NamedTensors& state) override;

 private:
  struct Slot {
    Moment moment1, moment2;
    int64_t steps = 0;
  };
  void step_on_cpu(double lr, double grad_scale, double ema_decay);
  void step_with_aten(size_t i, double lr, double grad_scale, double ema_decay);

  AdamWConfig config_;
  std::vector<Slot> slots_;
};

}  // namespace emulsion::optim
