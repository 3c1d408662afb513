// Classifier-free guidance.
#pragma once

#include "core/tensor.h"

namespace emulsion::diffusion {

/// uncond + scale (cond - uncond); exactly `cond` at scale 1.
///
/// Shapes: all [B,C,h,w]. Any parametrisation: eps, v or x0 of the same x_t.
/// Source: Ho & Salimans 2022, arXiv:2207.12598.
Tensor cfg(const Tensor& uncond, const Tensor& cond, double scale);

/// As cfg, then `rescale` (0..1) of the way towards the standard deviation that `cond` has per
/// image, which keeps large scales from over-exposing. Source: Lin et al. 2023, arXiv:2305.08891,
/// eq. 15-16.
Tensor cfg(const Tensor& uncond, const Tensor& cond, double scale, double rescale);

}  // namespace emulsion::diffusion
