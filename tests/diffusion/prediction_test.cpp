#include "diffusion/prediction.h"

#include <gtest/gtest.h>

#include "config/enum_names.h"
#include "support/support.h"

namespace emulsion::diffusion {
namespace {

using test::close;

struct Case {
  Tensor x0 = at::linspace(-2, 2, 60).view({3, 4, 1, 5});
  Tensor eps = at::linspace(3, -1, 60).view({3, 4, 1, 5}).sin();
  Coefficients c = NoiseSchedule(NoiseScheduleConfig{}).at(at::tensor({3, 500, 980}, at::kLong));
};

class EveryPredictionTest : public ::testing::TestWithParam<Prediction> {};
INSTANTIATE_TEST_SUITE_P(, EveryPredictionTest,
                         ::testing::Values(Prediction::epsilon, Prediction::v_prediction,
                                           Prediction::sample),
                         [](const auto& info) { return config::name_of(info.param); });

TEST_P(EveryPredictionTest, TargetGivesBackBothParts) {
  const Case data;
  const Tensor x_t = add_noise(data.x0, data.eps, data.c);
  const Tensor out = target(GetParam(), data.x0, data.eps, data.c);
  EXPECT_TRUE(close(to_x0(GetParam(), out, x_t, data.c), data.x0, 1e-5));
  EXPECT_TRUE(close(to_epsilon(GetParam(), out, x_t, data.c), data.eps, 2e-5));
}

TEST_P(EveryPredictionTest, ComputesInFloat32FromLowerPrecision) {
  const Case data;
  const Tensor x0 = data.x0.to(at::kBFloat16), eps = data.eps.to(at::kBFloat16);
  const Tensor out = target(GetParam(), x0, eps, data.c);
  EXPECT_EQ(out.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(out, target(GetParam(), x0.to(at::kFloat), eps.to(at::kFloat), data.c)));
}

TEST_P(EveryPredictionTest, IsDifferentiableInTheOutput) {
  const Case data;
  Tensor out = target(GetParam(), data.x0, data.eps, data.c).requires_grad_();
  to_x0(GetParam(), out, data.x0, data.c).sum().backward();
  // d x0 / d out: -sigma / alpha, -sigma, 1.
  const Tensor expected = GetParam() == Prediction::epsilon        ? -data.c.sigma / data.c.alpha
                          : GetParam() == Prediction::v_prediction ? -data.c.sigma
                                                                   : at::ones_like(data.c.sigma);
  EXPECT_TRUE(close(out.grad(), expected.expand_as(out), 1e-6));
}

TEST(PredictionTest, VelocityAtPureNoiseIsMinusX0) {
  const Case data;
  const Coefficients c =
      NoiseSchedule({.zero_terminal_snr = true}).at(at::full({3}, 999, at::kLong));
  const Tensor v = target(Prediction::v_prediction, data.x0, data.eps, c);
  EXPECT_TRUE(at::equal(v, -data.x0));
  EXPECT_TRUE(close(to_x0(Prediction::v_prediction, v, data.eps, c), data.x0, 1e-6));
}

TEST(PredictionTest, RefusesShapesThatDiffer) {
  const Case data;
  const auto message =
      test::error_message([&] { add_noise(data.x0, data.eps.slice(0, 0, 2), data.c); });
  EXPECT_NE(message.find("[3,4,1,5] and [2,4,1,5]"), std::string::npos) << message;
}

}  // namespace
}  // namespace emulsion::diffusion
