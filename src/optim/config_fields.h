// Fields that several optimizers have, with one wording.
#pragma once

namespace emulsion::optim {

template <class V>
void rate_field(V& v, double& lr) {
  v("lr", lr, "Learning rate, before the schedule.").min(0);
}

/// Adam's averages and what keeps its denominator from 0.
template <class V>
void moment_fields(V& v, double& beta1, double& beta2, double& eps) {
  v("beta1", beta1, "Decay of the gradient's moving average.").min(0).below(1);
  v("beta2", beta2, "Decay of the squared gradient's moving average.").min(0).below(1);
  v("eps", eps, "Added to the denominator of the update.").min(0);
}

/// Weight decay apart from the gradient.
template <class V>
void decay_field(V& v, double& weight_decay) {
  v("weight_decay", weight_decay, "Shrinks weights by lr * weight_decay per step.").min(0);
}

template <class V>
void exemption_field(V& v, bool& decay_norms_and_biases) {
  v("decay_norms_and_biases", decay_norms_and_biases, "Whether weight decay also shrinks norms and biases.");
}

}  // namespace emulsion::optim
