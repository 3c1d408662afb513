// Random initialisation: spreads as documented, and a pure function of seed and name.
#include "nn/init.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/support.h"

namespace emulsion::nn {
namespace {

// 36,864 numbers: the standard error of a spread is 0.37 %.
const std::vector<int64_t> kShape = {128, 32, 3, 3};

TEST(InitTest, NormalFanInHasTheSpreadOfOneOverTheRootOfTheFanIn) {
  const Tensor drawn = draw(InitKind::normal_fan_in, 2.0, kShape, Rng(1), "a.weight");
  EXPECT_NEAR(drawn.std().item<double>(), 2 / std::sqrt(288.0), 0.02 * 2 / std::sqrt(288.0));
  EXPECT_NEAR(drawn.mean().item<double>(), 0, 0.003);
}

TEST(InitTest, UniformFanInFillsItsInterval) {
  const double bound = 1 / std::sqrt(288.0);
  const Tensor drawn = draw(InitKind::uniform_fan_in, 1.0, kShape, Rng(1), "a.weight");
  EXPECT_LE(drawn.abs().max().item<double>(), bound * (1 + 1e-6));
  EXPECT_GT(drawn.max().item<double>(), 0.999 * bound);
  EXPECT_LT(drawn.min().item<double>(), -0.999 * bound);
  EXPECT_NEAR(drawn.std().item<double>(), bound / std::sqrt(3.0), 0.02 * bound);
}

TEST(InitTest, TheOtherKindsAreWhatTheirNamesSay) {
  EXPECT_NEAR(draw(InitKind::normal, 0.3, kShape, Rng(1), "a").std().item<double>(), 0.3, 0.006);
  EXPECT_TRUE(at::equal(draw(InitKind::zeros, 1, {3}, Rng(1), "a"), at::zeros({3})));
  EXPECT_TRUE(at::equal(draw(InitKind::ones, 1, {3}, Rng(1), "a"), at::ones({3})));
}

TEST(InitTest, NumbersFollowFromSeedAndName) {
  const auto drawn = [](uint64_t seed, const char* name) {
    return draw(InitKind::normal_fan_in, 1, {16, 16}, Rng(seed), name);
  };
  EXPECT_TRUE(at::equal(drawn(1, "a.weight"), drawn(1, "a.weight")));
  EXPECT_FALSE(at::equal(drawn(1, "a.weight"), drawn(2, "a.weight")));
  EXPECT_FALSE(at::equal(drawn(1, "a.weight"), drawn(1, "b.weight")));
}

TEST(InitTest, TheLastRuleThatMatchesWinsAndNoneIsAnError) {
  ParamStore store;
  const Scope scope(store);
  (scope / "a").param("weight", {8});
  (scope / "norm").param("weight", {8});
  initialise(store, Rng(1), "unet", {{"*.weight", InitKind::zeros}, {"norm.weight", InitKind::ones}});
  EXPECT_EQ(store.at("a.weight").value.sum().item<double>(), 0);
  EXPECT_EQ(store.at("norm.weight").value.sum().item<double>(), 8);
  (scope / "a").param("bias", {8});
  const std::string message =
      test::error_message([&] { initialise(store, Rng(1), "unet", {{"*.weight", InitKind::zeros}}); });
  EXPECT_NE(message.find("unet.a.bias"), std::string::npos) << message;
}

}  // namespace
}  // namespace emulsion::nn
