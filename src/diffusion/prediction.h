// What a network is trained to return, and the conversions between that, x0 and eps.
//
// All are one form: x_t = alpha x0 + sigma eps, target = m0 x0 + m1 eps, with (m0, m1) =
//   epsilon       (0, 1)
//   v_prediction  (-sigma, alpha)    Salimans & Ho 2022, arXiv:2202.00512
//   sample        (1, 0)
// Every function computes in float32 and is differentiable in its tensor arguments.
#pragma once

#include <array>
#include <utility>

#include "core/tensor.h"
#include "diffusion/noise_schedule.h"

namespace emulsion::diffusion {

enum class Prediction { epsilon, v_prediction, sample };

constexpr auto enum_names(Prediction) {
  return std::to_array<std::pair<Prediction, const char*>>(
      {{Prediction::epsilon, "epsilon"},
       {Prediction::v_prediction, "v_prediction"},
       {Prediction::sample, "sample"}});
}

/// x_t = alpha x0 + sigma eps.
///
/// Shapes:  `x0`, `eps` [B,C,h,w]; `c` [B,1,1,1].
/// Returns: [B,C,h,w], float32.
/// Throws:  Error{shape} if the shapes differ.
Tensor add_noise(const Tensor& x0, const Tensor& eps, const Coefficients& c);

/// What the network should return for (x0, eps). Shapes, result and errors as add_noise.
Tensor target(Prediction prediction, const Tensor& x0, const Tensor& eps, const Coefficients& c);

/// Recovers x0 from a network output.
///
/// Shapes:  `out`, `x_t` [B,C,h,w]; `c` [B,1,1,1].
/// Units:   scaled latents (VAE scale and shift applied).
/// Returns: [B,C,h,w], float32. With epsilon and alpha = 0 it is not finite: x0 is not in x_t then.
/// Throws:  Error{shape} if the shapes differ.
Tensor to_x0(Prediction prediction, const Tensor& out, const Tensor& x_t, const Coefficients& c);

/// Recovers eps from a network output. Shapes, result and errors as to_x0.
Tensor to_epsilon(Prediction prediction, const Tensor& out, const Tensor& x_t,
                  const Coefficients& c);

}  // namespace emulsion::diffusion
