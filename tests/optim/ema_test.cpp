#include "optim/ema.h"

#include <gtest/gtest.h>

#include "optim/adamw.h"
#include "support/support.h"

namespace emulsion::optim {
namespace {

using test::close;

std::vector<Param> two_params() {
  const Tensor first = at::linspace(-1, 1, 12).view({3, 4});
  return {{.name = "a", .master = first, .copy = first.to(at::kBFloat16)},
          {.name = "b", .master = at::ones({5})}};
}

TEST(EmaTest, DecayWarmsUpAsInLitEma) {
  std::vector<Param> params;
  const Ema ema({.decay = 0.9999}, params);
  EXPECT_NEAR(ema.decay_at(1), 0.181818, 1e-6);
  EXPECT_NEAR(ema.decay_at(10), 0.55, 1e-6);
  EXPECT_NEAR(ema.decay_at(100), 0.918182, 1e-6);
  EXPECT_NEAR(ema.decay_at(1000), 0.991089, 1e-6);
  EXPECT_EQ(ema.decay_at(1000000), 0.9999);
}

TEST(EmaTest, ShadowsFollowTheMastersThroughTheOptimizer) {
  std::vector<Param> params = two_params();
  Ema ema({.decay = 0.5}, params);
  AdamW adamw({}, params);
  std::vector<Tensor> expected;
  for (const Param& param : params) expected.push_back(param.master.to(at::kDouble));
  for (const double decay : {2 / 11.0, 3 / 12.0, 4 / 13.0}) {
    for (Param& param : adamw.params()) param.grad = at::ones_like(param.master);
    adamw.step(0.1, 1, ema.next_decay());
    for (size_t i = 0; i < 2; ++i) {
      expected[i] = decay * expected[i] + (1 - decay) * adamw.params()[i].master.to(at::kDouble);
    }
  }
  EXPECT_EQ(ema.updates(), 3);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(close(ema.shadows()[i].second, expected[i], 1e-6));
    EXPECT_FALSE(close(ema.shadows()[i].second, params[i].master, 1e-2));
  }
}

TEST(EmaTest, StateRestoresShadowsAndCount) {
  std::vector<Param> params = two_params();
  Ema ema({}, params);
  params[0].ema.fill_(3);
  ema.next_decay();
  std::vector<Param> fresh = two_params();
  Ema other({}, fresh);
  other.load_state(ema.state());
  EXPECT_EQ(other.updates(), 1);
  EXPECT_TRUE(at::equal(fresh[0].ema, at::full({3, 4}, 3.0)));
  const auto message = test::error_message([&] { other.load_state({}); });
  EXPECT_NE(message.find("expected a tensor 'a'"), std::string::npos) << message;
}

TEST(EmaTest, SwapShowsTheAveragesAndRestoresTheBits) {
  std::vector<Param> params = two_params();
  const Tensor start = params[0].master.clone();
  const Ema ema({}, params);
  params[0].ema.fill_(0.3);
  {
    const EmaSwap swap(params);
    EXPECT_TRUE(at::equal(params[0].master, at::full({3, 4}, 0.3)));
    EXPECT_TRUE(at::equal(params[0].copy, at::full({3, 4}, 0.3, at::kBFloat16)));
  }
  EXPECT_TRUE(at::equal(params[0].master, start));
  EXPECT_TRUE(at::equal(params[0].copy, start.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(params[0].ema, at::full({3, 4}, 0.3)));
}

TEST(EmaTest, SwapShowsTheAveragesOfWeightsWithoutMasters) {
  for (const bool rounds : {false, true}) {
    Param param{.name = "a", .copy = at::full({3, 4}, 0.625, at::kBFloat16), .rounds = rounds};
    if (!rounds) param.low = at::full({3, 4}, 5, at::kShort);
    std::vector<Param> params = {param};
    const Tensor start = weight_of(param).clone(), average = at::full({3, 4}, 0.3);
    const Ema ema({}, params);
    EXPECT_TRUE(at::equal(params[0].ema, start));
    params[0].ema.copy_(average);
    {
      const EmaSwap swap(params);
      EXPECT_TRUE(at::equal(weight_of(params[0]), rounds ? average.to(at::kBFloat16).to(at::kFloat) : average)) << rounds;
    }
    EXPECT_TRUE(at::equal(weight_of(params[0]), start)) << rounds;
    EXPECT_TRUE(at::equal(params[0].ema, average)) << rounds;
  }
}

}  // namespace
}  // namespace emulsion::optim
