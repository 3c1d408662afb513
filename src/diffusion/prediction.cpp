#include "diffusion/prediction.h"

#include "core/error.h"

namespace emulsion::diffusion {
namespace {

/// target = x0 * Mix::x0 + eps * Mix::eps.
struct Mix {
  Tensor x0, eps;
};

Mix mix_of(Prediction prediction, const Coefficients& c) {
  switch (prediction) {
    case Prediction::epsilon:
      return {at::zeros_like(c.alpha), at::ones_like(c.alpha)};
    case Prediction::v_prediction:
      return {-c.sigma, c.alpha};
    case Prediction::sample:
      return {at::ones_like(c.alpha), at::zeros_like(c.alpha)};
  }
  throw Error(ErrorCode::internal, "[prediction] unknown prediction");
}

void check(const Tensor& a, const Tensor& b, const Coefficients& c) {
  const auto text = [](const Tensor& t) { return fmt::format("[{}]", fmt::join(t.sizes(), ",")); };
  EMULSION_CHECK(a.sizes() == b.sizes(), shape,
                 "[prediction] expected two equal shapes, got {} and {}", text(a), text(b));
  EMULSION_CHECK(c.alpha.numel() == 1 || (c.alpha.dim() == a.dim() && c.alpha.size(0) == a.size(0)),
                 shape, "[prediction] expected coefficients [{},1,1,1], got {}", a.size(0),
                 text(c.alpha));
}

/// Solves x_t = alpha x0 + sigma eps, out = m0 x0 + m1 eps; this is its determinant.
Tensor determinant(const Mix& mix, const Coefficients& c) {
  return c.alpha * mix.eps - c.sigma * mix.x0;
}

}  // namespace

Tensor add_noise(const Tensor& x0, const Tensor& eps, const Coefficients& c) {
  check(x0, eps, c);
  return c.alpha * x0.to(at::kFloat) + c.sigma * eps.to(at::kFloat);
}

Tensor target(Prediction prediction, const Tensor& x0, const Tensor& eps, const Coefficients& c) {
  check(x0, eps, c);
  const Mix mix = mix_of(prediction, c);
  return mix.x0 * x0.to(at::kFloat) + mix.eps * eps.to(at::kFloat);
}

Tensor to_x0(Prediction prediction, const Tensor& out, const Tensor& x_t, const Coefficients& c) {
  check(out, x_t, c);
  if (prediction == Prediction::sample) return out.to(at::kFloat);  // exact also at sigma = 0
  const Mix mix = mix_of(prediction, c);
  return (mix.eps * x_t.to(at::kFloat) - c.sigma * out.to(at::kFloat)) / determinant(mix, c);
}

Tensor to_epsilon(Prediction prediction, const Tensor& out, const Tensor& x_t,
                  const Coefficients& c) {
  check(out, x_t, c);
  if (prediction == Prediction::epsilon) return out.to(at::kFloat);  // exact also at alpha = 0
  const Mix mix = mix_of(prediction, c);
  return (c.alpha * out.to(at::kFloat) - mix.x0 * x_t.to(at::kFloat)) / determinant(mix, c);
}

}  // namespace emulsion::diffusion
