// The optimizers as data: the [optimizer] table of a run file. Defaults are those of the reference implementations.
#pragma once

#include <array>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "optim/adamw.h"

namespace emulsion::optim {

struct SgdConfig {
  static constexpr const char* kType = "sgd";
  static constexpr const char* kDoc = "Stochastic gradient descent with momentum, as torch.optim.SGD.";
  double lr = 1e-3;
  double momentum = 0.9;
  bool nesterov = true;
  double weight_decay = 0;
  bool decay_norms_and_biases = true;
  double state_bytes() const { return momentum > 0 ? 4 : 0; }
  template <class V>
  void fields(V& v) {
    rate_field(v, lr);
    v("momentum", momentum, "Decay of the sum of gradients; 0: none.").min(0).below(1);
    v("nesterov", nesterov, "Look one step ahead (Nesterov); needs momentum.");
    v("weight_decay", weight_decay, "Times the weight is added to the gradient.").min(0);
    exemption_field(v, decay_norms_and_biases);
  }
};

struct LionConfig {
  static constexpr const char* kType = "lion";
  static constexpr const char* kDoc =
      "Lion (Chen et al. 2023, arXiv:2302.06675): steps of equal size by the sign. Wants a learning rate 3 to 10 times lower than "
      "AdamW.";
  double lr = 1e-5;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double weight_decay = 0.01;
  bool decay_norms_and_biases = true;
  double state_bytes() const { return 4; }
  template <class V>
  void fields(V& v) {
    rate_field(v, lr);
    v("beta1", beta1, "Share of the moving average in the update.").min(0).below(1);
    v("beta2", beta2, "Decay of the gradient's moving average.").min(0).below(1);
    decay_field(v, weight_decay);
    exemption_field(v, decay_norms_and_biases);
  }
};

struct AdafactorConfig {
  static constexpr const char* kType = "adafactor";
  static constexpr const char* kDoc =
      "Adafactor (Shazeer & Stern 2018, arXiv:1804.04235): squared gradients as a row and a column, almost no memory.";
  double lr = 1e-3;
  double beta1 = 0;
  double decay_rate = 0.8;
  double eps1 = 1e-30;
  double eps2 = 1e-3;
  double clip_threshold = 1;
  double weight_decay = 0;
  bool scale_parameter = false;
  bool relative_step = false;
  bool warmup_init = false;
  bool decay_norms_and_biases = true;
  double state_bytes() const { return beta1 > 0 ? 4 : 0; }
  template <class V>
  void fields(V& v) {
    v("lr", lr, "Learning rate, before the schedule; a factor of the relative step where that is on.").min(0);
    v("beta1", beta1, "Decay of the gradient's moving average; 0: none is kept.").min(0).below(1);
    v("decay_rate", decay_rate, "Squared gradients decay by 1 - step^-decay_rate.").above(0).max(1);
    v("eps1", eps1, "Added to squared gradients.").min(0);
    v("eps2", eps2, "Least size of a weight for scale_parameter.").min(0);
    v("clip_threshold", clip_threshold, "Root mean square above which an update is scaled down.").above(0);
    decay_field(v, weight_decay);
    v("scale_parameter", scale_parameter, "Learning rate times the root mean square of the weight.");
    v("relative_step", relative_step, "Learning rate min(0.01, 1 / sqrt(step)); set lr = 1 beside it.");
    v("warmup_init", warmup_init, "Relative steps begin at 1e-6 and rise with the step.");
    exemption_field(v, decay_norms_and_biases);
  }
};

struct ProdigyConfig {
  static constexpr const char* kType = "prodigy";
  static constexpr const char* kDoc =
      "Prodigy (Mishchenko & Defazio 2023, arXiv:2306.06101): finds the learning rate by itself; leave lr at 1.";
  double lr = 1;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double beta3 = 0;
  double eps = 1e-8;
  double weight_decay = 0;
  bool bias_correction = false;
  bool safeguard_warmup = false;
  double d0 = 1e-6;
  double d_coef = 1;
  double growth_rate = 0;
  bool decay_norms_and_biases = true;
  double state_bytes() const { return 16; }
  template <class V>
  void fields(V& v) {
    v("lr", lr, "Factor of the learning rate that is found, before the schedule.").min(0);
    v("beta1", beta1, "Decay of the gradient's moving average.").min(0).below(1);
    v("beta2", beta2, "Decay of the squared gradient's moving average.").min(0).below(1);
    v("beta3", beta3, "Decay of what estimates the distance; 0: the root of beta2.").min(0).below(1);
    v("eps", eps, "Added to the denominator of the update, times the distance.").min(0);
    v("weight_decay", weight_decay, "Shrinks weights by the learning rate times weight_decay per step.").min(0);
    v("bias_correction", bias_correction, "Corrects the moments for their start at 0, as Adam does.");
    v("safeguard_warmup", safeguard_warmup, "Leaves the schedule out of the estimate, for runs with a warm-up.");
    v("d0", d0, "First estimate of the distance.").above(0);
    v("d_coef", d_coef, "Factor of the estimate; 0.5 for smaller steps, 2 for larger ones.").above(0);
    v("growth_rate", growth_rate, "Most by which the estimate grows in a step; 0: without limit.").min(0);
    exemption_field(v, decay_norms_and_biases);
  }
};

struct CameConfig {
  static constexpr const char* kType = "came";
  static constexpr const char* kDoc =
      "CAME (Luo et al. 2023, arXiv:2307.02047): Adafactor whose steps shrink where they waver.";
  double lr = 1e-4;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double beta3 = 0.9999;
  double eps1 = 1e-30;
  double eps2 = 1e-16;
  double clip_threshold = 1;
  double weight_decay = 0;
  bool decay_norms_and_biases = true;
  double state_bytes() const { return 4; }
  template <class V>
  void fields(V& v) {
    rate_field(v, lr);
    v("beta1", beta1, "Decay of the update's moving average.").min(0).below(1);
    v("beta2", beta2, "Decay of the squared gradient's moving average.").min(0).below(1);
    v("beta3", beta3, "Decay of the moving average of the update's instability.").min(0).below(1);
    v("eps1", eps1, "Added to squared gradients.").min(0);
    v("eps2", eps2, "Added to the instability.").min(0);
    v("clip_threshold", clip_threshold, "Root mean square above which an update is scaled down.").above(0);
    decay_field(v, weight_decay);
    exemption_field(v, decay_norms_and_biases);
  }
};

struct AdanConfig {
  static constexpr const char* kType = "adan";
  static constexpr const char* kDoc =
      "Adan (Xie et al. 2022, arXiv:2208.06677): Adam with Nesterov's momentum from differences of gradients.";
  double lr = 1e-3;
  double beta1 = 0.98;
  double beta2 = 0.92;
  double beta3 = 0.99;
  double eps = 1e-8;
  double weight_decay = 0;
  bool proximal = true;
  bool decay_norms_and_biases = true;
  double state_bytes() const { return 16; }
  template <class V>
  void fields(V& v) {
    rate_field(v, lr);
    v("beta1", beta1, "Decay of the gradient's moving average.").min(0).below(1);
    v("beta2", beta2, "Decay of the moving average of gradient differences.").min(0).below(1);
    v("beta3", beta3, "Decay of the squared gradient's moving average.").min(0).below(1);
    v("eps", eps, "Added to the denominator of the update.").min(0);
    decay_field(v, weight_decay);
    v("proximal", proximal, "Shrinks by 1 / (1 + lr * weight_decay) after the update, instead of 1 - lr * weight_decay before it.");
    exemption_field(v, decay_norms_and_biases);
  }
};

struct StableAdamWConfig {
  static constexpr const char* kType = "stable_adamw";
  static constexpr const char* kDoc =
      "StableAdamW (Wortsman et al. 2023, arXiv:2304.13013): AdamW that takes shorter steps where gradients outgrow their history; "
      "needs no clipping.";
  double lr = 1e-4;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double eps = 1e-6;
  double weight_decay = 0.01;
  bool decay_norms_and_biases = true;
  double state_bytes() const { return 8; }
  template <class V>
  void fields(V& v) {
    rate_field(v, lr);
    moment_fields(v, beta1, beta2, eps);
    decay_field(v, weight_decay);
    exemption_field(v, decay_norms_and_biases);
  }
};

struct AdamW8bitConfig {
  static constexpr const char* kType = "adamw_8bit";
  static constexpr const char* kDoc =
      "AdamW with its averages in 8 bits, 256 numbers sharing a scale (Dettmers et al. 2021, arXiv:2110.02861): 2 bytes a weight "
      "instead of 8. As bitsandbytes' AdamW8bit.";
  double lr = 1e-4;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  int64_t least_size = 4096;
  bool decay_norms_and_biases = true;
  double state_bytes() const { return 2; }
  template <class V>
  void fields(V& v) {
    rate_field(v, lr);
    moment_fields(v, beta1, beta2, eps);
    decay_field(v, weight_decay);
    v("least_size", least_size, "Smaller tensors keep averages in float32.").min(0);
    exemption_field(v, decay_norms_and_biases);
  }
};

enum class MuonRate { match_rms_adamw, original };
constexpr auto enum_names(MuonRate) {
  return std::to_array<std::pair<MuonRate, const char*>>(
      {{MuonRate::match_rms_adamw, "match_rms_adamw"}, {MuonRate::original, "original"}});
}

struct MuonConfig {
  static constexpr const char* kType = "muon";
  static constexpr const char* kDoc =
      "Muon (Jordan et al. 2024): momentum of matrices made orthogonal, so that no direction is left behind; all else by AdamW.";
  double lr = 1e-3;
  double momentum = 0.95;
  bool nesterov = true;
  int64_t iterations = 5;
  MuonRate rate = MuonRate::match_rms_adamw;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double adamw_lr_factor = 1;
  std::vector<std::string> adamw_names = {"embedding", "conv_in", "conv_out"};
  double weight_decay = 0.1;
  bool decay_norms_and_biases = true;
  double state_bytes() const { return 4; }
  template <class V>
  void fields(V& v) {
    rate_field(v, lr);
    v("momentum", momentum, "Decay of a matrix gradient's moving average.").min(0).below(1);
    v("nesterov", nesterov, "Look one step ahead (Nesterov).");
    v("iterations", iterations, "Newton-Schulz iterations towards an orthogonal matrix.").min(1).max(99);
    v("rate", rate,
      "match_rms_adamw: 0.2 sqrt(larger side) times lr, so that AdamW's learning rate fits (Liu et al. 2025, arXiv:2502.16982); "
      "original: sqrt(max(1, rows / columns)) times lr.");
    v("beta1", beta1, "AdamW's decay of the gradient's moving average.").min(0).below(1);
    v("beta2", beta2, "AdamW's decay of the squared gradient's moving average.").min(0).below(1);
    v("eps", eps, "Added to the denominator of AdamW's update.").min(0);
    v("adamw_lr_factor", adamw_lr_factor, "Times lr: the learning rate of what AdamW trains.").min(0);
    v("adamw_names", adamw_names,
      "Matrices with one of these in their name train by AdamW: first and last layers, tables of words.");
    decay_field(v, weight_decay);
    exemption_field(v, decay_norms_and_biases);
  }
};

struct ScheduleFreeConfig {
  static constexpr const char* kType = "schedule_free_adamw";
  static constexpr const char* kDoc =
      "Schedule-free AdamW (Defazio et al. 2024, arXiv:2405.15682): an average of all steps takes the place of a schedule, and is "
      "what is drawn with and saved. Leave schedule.shape at constant and [ema] off.";
  double lr = 2.5e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  double r = 0;
  double weight_lr_power = 2;
  bool decay_norms_and_biases = true;
  double state_bytes() const { return 12; }
  template <class V>
  void fields(V& v) {
    v("lr", lr, "Learning rate, before the warm-up; 1 to 10 times that of AdamW with a schedule.").min(0);
    v("beta1", beta1, "Share of the average in the point at which gradients are taken.").min(0).below(1);
    v("beta2", beta2, "Decay of the squared gradient's moving average.").min(0).below(1);
    v("eps", eps, "Added to the denominator of the update.").min(0);
    decay_field(v, weight_decay);
    v("r", r, "A step counts in the average by its number to this power.").min(0);
    v("weight_lr_power", weight_lr_power, "And by the largest learning rate so far to this power.").min(0);
    exemption_field(v, decay_norms_and_biases);
  }
};

struct DAdaptAdamConfig {
  static constexpr const char* kType = "dadapt_adam";
  static constexpr const char* kDoc =
      "D-Adaptation by Adam (Defazio & Mishchenko 2023, arXiv:2301.07733): finds the learning rate by itself; leave lr at 1.";
  double lr = 1;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool decoupled = false;
  bool bias_correction = false;
  double d0 = 1e-6;
  double growth_rate = 0;
  bool decay_norms_and_biases = true;
  double state_bytes() const { return 12; }
  template <class V>
  void fields(V& v) {
    v("lr", lr, "Factor of the learning rate that is found, before the schedule.").min(0);
    moment_fields(v, beta1, beta2, eps);
    v("weight_decay", weight_decay, "Times the weight is added to the gradient, or shrinks weights where decoupled.").min(0);
    v("decoupled", decoupled, "Weight decay as AdamW has it.");
    v("bias_correction", bias_correction, "Corrects the moments for their start at 0, as Adam does.");
    v("d0", d0, "First estimate of the distance.").above(0);
    v("growth_rate", growth_rate, "Most by which the estimate grows in a step; 0: without limit.").min(0);
    exemption_field(v, decay_norms_and_biases);
  }
};

using OptimizerConfig =
    std::variant<AdamWConfig, SgdConfig, LionConfig, AdafactorConfig, ProdigyConfig, CameConfig, AdanConfig, StableAdamWConfig,
                 AdamW8bitConfig, MuonConfig, ScheduleFreeConfig, DAdaptAdamConfig>;

double learning_rate(const OptimizerConfig& config);
/// What an optimizer keeps of each number that trains, in bytes; of large tensors, about.
double state_bytes(const OptimizerConfig& config);
bool decays_norms_and_biases(const OptimizerConfig& config);
/// Whether a step may come in parts: what becomes of a tensor depends on its own gradients alone.
bool takes_parts(const OptimizerConfig& config);

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config, std::vector<Param> params);

}  // namespace emulsion::optim
