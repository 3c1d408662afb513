// The optimizers as data: the [optimizer] table of a run file. Defaults are those of the reference implementations.
#pragma once

#include <variant>

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
  template <class V>
  void fields(V& v) {
    v("lr", lr, "Learning rate, before the schedule.").min(0);
    v("momentum", momentum, "Decay of the sum of gradients; 0: none.").min(0).below(1);
    v("nesterov", nesterov, "Look one step ahead (Nesterov); needs momentum.");
    v("weight_decay", weight_decay, "Times the weight is added to the gradient.").min(0);
    v("decay_norms_and_biases", decay_norms_and_biases, "Whether weight decay also shrinks norms and biases.");
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
  template <class V>
  void fields(V& v) {
    v("lr", lr, "Learning rate, before the schedule.").min(0);
    v("beta1", beta1, "Share of the moving average in the update.").min(0).below(1);
    v("beta2", beta2, "Decay of the gradient's moving average.").min(0).below(1);
    v("weight_decay", weight_decay, "Shrinks weights by lr * weight_decay per step.").min(0);
    v("decay_norms_and_biases", decay_norms_and_biases, "Whether weight decay also shrinks norms and biases.");
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
  template <class V>
  void fields(V& v) {
    v("lr", lr, "Learning rate, before the schedule; a factor of the relative step where that is on.").min(0);
    v("beta1", beta1, "Decay of the gradient's moving average; 0: none is kept.").min(0).below(1);
    v("decay_rate", decay_rate, "Squared gradients decay by 1 - step^-decay_rate.").above(0).max(1);
    v("eps1", eps1, "Added to squared gradients.").min(0);
    v("eps2", eps2, "Least size of a weight for scale_parameter.").min(0);
    v("clip_threshold", clip_threshold, "Root mean square above which an update is scaled down.").above(0);
    v("weight_decay", weight_decay, "Shrinks weights by lr * weight_decay per step.").min(0);
    v("scale_parameter", scale_parameter, "Learning rate times the root mean square of the weight.");
    v("relative_step", relative_step, "Learning rate min(0.01, 1 / sqrt(step)); set lr = 1 beside it.");
    v("warmup_init", warmup_init, "Relative steps begin at 1e-6 and rise with the step.");
    v("decay_norms_and_biases", decay_norms_and_biases, "Whether weight decay also shrinks norms and biases.");
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
    v("decay_norms_and_biases", decay_norms_and_biases, "Whether weight decay also shrinks norms and biases.");
  }
};

using OptimizerConfig = std::variant<AdamWConfig, SgdConfig, LionConfig, AdafactorConfig, ProdigyConfig>;

double learning_rate(const OptimizerConfig& config);
bool decays_norms_and_biases(const OptimizerConfig& config);

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config, std::vector<Param> params);

}  // namespace emulsion::optim
