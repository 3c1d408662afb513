#include "optim/schedule.h"

#include <gtest/gtest.h>

#include <map>

#include "io/safetensors.h"
#include "support/support.h"

namespace emulsion::optim {
namespace {

/// The whole curve of a run of 100 steps.
Tensor curve(const LrScheduleConfig& config) {
  std::vector<double> values;
  for (int64_t step = 0; step < 100; ++step) values.push_back(multiplier(config, step, 100));
  return at::tensor(values, at::kDouble);
}

TEST(LrScheduleTest, CurvesAreThoseOfDiffusers) {
  const auto file = io::SafetensorsFile::open(test::golden("optim.safetensors"));
  const auto expect_curve = [&](const LrScheduleConfig& config, const std::string& name) {
    EXPECT_TRUE(at::allclose(curve(config), file.tensor("lr." + name), 1e-12, 1e-12)) << name;
  };
  expect_curve({.shape = LrSchedule::constant}, "constant");
  expect_curve({.shape = LrSchedule::constant, .warmup_steps = 10}, "constant_with_warmup");
  expect_curve({.shape = LrSchedule::linear, .warmup_steps = 10}, "linear");
  expect_curve({.shape = LrSchedule::cosine, .warmup_steps = 10}, "cosine");
  expect_curve({.shape = LrSchedule::cosine, .warmup_fraction = 0.1}, "cosine");
  expect_curve({.shape = LrSchedule::cosine_with_restarts, .warmup_steps = 10, .cycles = 3}, "cosine_with_restarts");
}

/// diffusers ends at 1e-7 of an optimizer's rate of 1e-4 instead of 0: at min_ratio 1e-3.
TEST(LrScheduleTest, PolynomialIsThatOfDiffusers) {
  const auto file = io::SafetensorsFile::open(test::golden("optim.safetensors"));
  const LrScheduleConfig config{.shape = LrSchedule::polynomial, .warmup_steps = 10, .min_ratio = 1e-3, .power = 2};
  EXPECT_TRUE(at::allclose(curve(config), file.tensor("lr.polynomial"), 1e-12, 1e-12));
}

TEST(LrScheduleTest, RexIsItsFormula) {
  const LrScheduleConfig config{.shape = LrSchedule::rex};
  EXPECT_DOUBLE_EQ(multiplier(config, 0, 100), 1);
  EXPECT_DOUBLE_EQ(multiplier(config, 50, 100), 0.5 / 0.75);
  EXPECT_DOUBLE_EQ(multiplier(config, 80, 100), 0.2 / 0.6);
  EXPECT_DOUBLE_EQ(multiplier(config, 100, 100), 0);
}

TEST(LrScheduleTest, InverseSqrtAndWarmupStableDecayAreThoseOfTransformers) {
  const auto file = io::SafetensorsFile::open(test::golden("optim.safetensors"));
  const auto expect_curve = [&](const LrScheduleConfig& config, const std::string& name, int64_t from = 0) {
    EXPECT_TRUE(at::allclose(curve(config).slice(0, from), file.tensor("lr." + name).slice(0, from), 1e-12, 1e-12)) << name;
  };
  expect_curve({.shape = LrSchedule::inverse_sqrt, .warmup_steps = 10}, "inverse_sqrt");
  expect_curve({.shape = LrSchedule::inverse_sqrt}, "inverse_sqrt_plain");
  LrScheduleConfig config{.shape = LrSchedule::warmup_stable_decay, .warmup_steps = 10, .decay_fraction = 30.0 / 90};
  expect_curve(config, "wsd_sqrt");
  config.decay_shape = DecayShape::cosine;
  expect_curve(config, "wsd_cosine");
  config.decay_shape = DecayShape::linear;
  config.min_ratio = 0.1;
  expect_curve(config, "wsd_linear", 10);  // theirs begins its warm-up at min_lr_ratio, ours at 0
}

TEST(LrScheduleTest, PiecewiseRatesAreValidUpToTheirStep) {
  const LrScheduleConfig config{.shape = LrSchedule::piecewise, .rates = "0.005:100, 1e-3:1000,1e-5"};
  for (const auto& [step, rate] :
       std::map<int64_t, double>{{1, 0.005}, {100, 0.005}, {101, 1e-3}, {1000, 1e-3}, {1001, 1e-5}, {90000, 1e-5}}) {
    EXPECT_DOUBLE_EQ(multiplier(config, step - 1, 2000), rate) << step;
  }
  EXPECT_DOUBLE_EQ(multiplier({.shape = LrSchedule::piecewise, .rates = "0.5:10"}, 50, 100), 0.5);  // the last one goes on
  for (const std::string rates : {"", "a", "1:", "1:10, 2:10, 3", "1:10,", "1:10 x, 2", "-1"}) {
    const LrScheduleConfig bad{.shape = LrSchedule::piecewise, .rates = rates};
    const auto message = test::error_message([&] { multiplier(bad, 50, 100); });
    EXPECT_NE(message.find("expected \"RATE:STEP"), std::string::npos) << rates << ": " << message;
  }
}

TEST(LrScheduleTest, MinRatioIsWhereTheCurveEnds) {
  for (const auto shape : {LrSchedule::linear, LrSchedule::cosine}) {
    const LrScheduleConfig config{.shape = shape, .warmup_steps = 10, .min_ratio = 0.2};
    EXPECT_DOUBLE_EQ(multiplier(config, 0, 100), 0);
    EXPECT_DOUBLE_EQ(multiplier(config, 10, 100), 1);
    EXPECT_NEAR(multiplier(config, 55, 100), 0.6, 1e-12);
    EXPECT_NEAR(multiplier(config, 100, 100), 0.2, 1e-12);
    EXPECT_NEAR(multiplier(config, 5000, 100), 0.2, 1e-12);
  }
}

TEST(LrScheduleTest, RefusesTwoWarmUps) {
  const LrScheduleConfig config{.warmup_steps = 10, .warmup_fraction = 0.1};
  const auto message = test::error_message([&] { multiplier(config, 0, 100); });
  EXPECT_NE(message.find("got both (10 and 0.1)"), std::string::npos) << message;
}

}  // namespace
}  // namespace emulsion::optim
