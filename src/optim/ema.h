// A moving average of the trained weights, with a warm-up.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "optim/param.h"

namespace emulsion::optim {

struct EmaConfig {
  double decay = 0.9999;

  template <class V>
  void fields(V& v) {
    v("decay", decay, "Weight of the old average in each step, once the run is long enough.")
        .min(0)
        .below(1);
  }
};

/// Owns the averages ("shadows"). The optimizer moves them in its own pass:
///
///   Ema ema(config, params);                  // gives every parameter its `ema` tensor
///   AdamW adamw(adamw_config, params);
///   adamw.step(lr, scale, ema.next_decay());  // once per optimizer step
class Ema {
 public:
  /// Sets `ema` of every parameter to a copy of its weight.
  Ema(const EmaConfig& config, std::vector<Param>& params);

  /// min(decay, (1 + n) / (10 + n)) for the n-th update, from 1: an average over about the last
  /// tenth of a young run. Source: the LitEma class of the Latent Diffusion release (Rombach et al.
  /// 2022).
  double decay_at(int64_t update) const;

  /// Counts an update and returns its decay.
  double next_decay();
  int64_t updates() const { return updates_; }

  /// Names of the parameters with their averages (shared, not copied).
  const NamedTensors& shadows() const { return shadows_; }

  /// "<name>" of each shadow (float32) and "updates" (int64 [1]).
  NamedTensors state() const;
  /// Throws: Error{not_found} or Error{shape} for a tensor that is missing or does not fit.
  void load_state(const NamedTensors& state);

 private:
  EmaConfig config_;
  NamedTensors shadows_;
  int64_t updates_ = 0;
};

/// While it lives, the weights are the averages (rounded where there are bfloat16 weights alone): for previews, evaluation and
/// saving. Restores the weights' bits at its end. No optimizer step may happen meanwhile.
class EmaSwap {
 public:
  /// `params` must outlive the swap. Parameters without `ema` stay as they are.
  explicit EmaSwap(const std::vector<Param>& params);
  ~EmaSwap();
  EmaSwap(const EmaSwap&) = delete;
  EmaSwap& operator=(const EmaSwap&) = delete;

 private:
  static void exchange(Param& param);
  const std::vector<Param>& params_;
  std::map<std::string, Tensor> held_;  // the weights of parameters that round at random
};

}  // namespace emulsion::optim
