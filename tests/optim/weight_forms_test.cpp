// The forms of a weight (master, halves, bfloat16 alone; whole or in pieces) take the same steps with every optimizer.
#include <gtest/gtest.h>

#include "core/random.h"
#include "golden_optimizers.h"

namespace emulsion::optim {
namespace {

/// The weights without masters: in halves, or in bfloat16 alone.
std::vector<Param> without_masters(bool rounds) {
  std::vector<Param> params = starting_params();
  for (Param& param : params) {
    const Tensor weight = std::exchange(param.master, Tensor());
    param.copy = at::zeros_like(weight, weight.options().dtype(at::kBFloat16));
    param.rounds = rounds;
    param.rounding = 77;
    if (!rounds) param.low = at::zeros_like(weight, weight.options().dtype(at::kShort));
    set_weight(param, weight);
  }
  return params;
}

// A float32 in two halves is the same float32, whatever changes it.
TEST(WeightFormsTest, AWeightInHalvesTakesTheSameStepsAsAMaster) {
  for (const auto& [name, config] : golden_configs()) {
    const double lr = learning_rate(config);
    const auto whole = make_optimizer(config, starting_params()), halves = make_optimizer(config, without_masters(false));
    take_steps(*whole, lr, 0, 10);
    take_steps(*halves, lr, 0, 10);
    for (size_t i = 0; i < 4; ++i) {
      const Param &expected = whole->params()[i], &actual = halves->params()[i];
      EXPECT_TRUE(at::equal(weight_of(actual), expected.master)) << name << " " << i;
      EXPECT_TRUE(test::close(actual.copy.to(at::kFloat), expected.master, 1.0 / 256)) << name << " " << i;  // half a last place
      EXPECT_FALSE(actual.master.defined()) << name;
    }
  }
}

// One step from the same bfloat16 weights, rounded by hand.
TEST(WeightFormsTest, AWeightOfBfloat16AloneIsTheFloat32StepRoundedAtRandom) {
  for (const auto& [name, config] : golden_configs()) {
    const double lr = learning_rate(config);
    const auto rounded = make_optimizer(config, without_masters(true));
    std::vector<Param> exact = starting_params();
    for (size_t i = 0; i < exact.size(); ++i) exact[i].master = weight_of(rounded->params()[i]).clone();
    const auto reference = make_optimizer(config, exact);
    take_steps(*rounded, lr, 0, 1);
    take_steps(*reference, lr, 0, 1);
    for (size_t i = 0; i < 4; ++i) {
      Param by_hand = without_masters(true)[i];
      set_weight(by_hand, reference->params()[i].master);
      EXPECT_TRUE(at::equal(rounded->params()[i].copy, by_hand.copy)) << name << " " << i;
    }
  }
}

/// A large weight whose memory is not in the order of its indices; as one parameter, or its numbers by 10,000 as parameters apart.
std::vector<Param> large_weight(bool apart, bool rounds) {
  const Tensor numbers = Rng(1).normal({300 * 301}, Purpose::init);
  std::vector<Param> params;
  for (int64_t begin = 0; begin < (apart ? numbers.numel() : 1); begin += 10'000) {
    Param param{.name = std::to_string(begin)};
    param.master = apart ? numbers.slice(0, begin, begin + 10'000).clone() : numbers.clone().view({300, 301}).t();
    if (rounds) param.copy = std::exchange(param.master, Tensor()).to(at::kBFloat16);
    param.rounds = rounds;
    param.rounding = 77 + static_cast<uint32_t>(begin);
    params.push_back(std::move(param));
  }
  return params;
}

TEST(WeightFormsTest, ALargeWeightTakesTheStepsThatItsNumbersTakeApart) {
  for (const std::string name : {"adamw", "sgd", "lion", "adan"}) {
    for (const bool rounds : {false, true}) {
      const OptimizerConfig config = golden_configs().at(name);
      const auto whole = make_optimizer(config, large_weight(false, rounds)), apart = make_optimizer(config, large_weight(true, rounds));
      for (uint64_t step = 0; step < 3; ++step) {
        const Tensor grad = Rng(2).normal({300 * 301}, Purpose::noise, step);
        whole->params()[0].grad = grad.view({300, 301}).t().contiguous();  // in another order than the weight
        for (size_t i = 0; i < apart->params().size(); ++i) {
          apart->params()[i].grad = grad.slice(0, static_cast<int64_t>(i) * 10'000, (static_cast<int64_t>(i) + 1) * 10'000);
        }
        whole->step(learning_rate(config), 0.5);
        apart->step(learning_rate(config), 0.5);
        NamedTensors state;  // as a file holds it: in the order of the indices
        for (const auto& [key, value] : whole->state()) state.emplace_back(key, value.clone(at::MemoryFormat::Contiguous));
        whole->load_state(state);
      }
      Tensor together = at::empty({0});
      for (const Param& param : apart->params()) together = at::cat({together, weight_of(param)});
      // Bits may differ by a last place where one ends a vector of numbers and the other does not; it may tip what is rounded.
      EXPECT_TRUE(test::close(in_memory(weight_of(whole->params()[0])), together, rounds ? 1.0 / 128 : 1e-6)) << name << " " << rounds;
    }
  }
}

// 1 + 2^-10 lies an eighth of the way from 1 to the next bfloat16.
TEST(WeightFormsTest, RoundingAtRandomIsRightOnAverageAndKeepsWhatBfloat16CanSay) {
  const int64_t n = 200'000;
  Param param{.name = "a", .copy = at::ones({n}, at::kBFloat16), .rounds = true};
  set_weight(param, at::full({n}, 1 + std::ldexp(1.0, -10)));
  const double up = param.copy.gt(1).to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(up, 0.125, 4 * std::sqrt(0.125 * 0.875 / static_cast<double>(n)));
  EXPECT_TRUE(param.copy.eq(1).logical_or(param.copy.eq(1 + std::ldexp(1.0, -7))).all().item<bool>());
  const Tensor first = param.copy.clone();
  set_weight(param, at::full({n}, 1 + std::ldexp(1.0, -10)));
  EXPECT_TRUE(at::equal(param.copy, first));  // the same step again
  ++param.rounding;
  set_weight(param, at::full({n}, 1 + std::ldexp(1.0, -10)));
  EXPECT_FALSE(at::equal(param.copy, first));
  set_weight(param, at::full({n}, -0.75));
  EXPECT_TRUE(at::equal(param.copy, at::full({n}, -0.75, at::kBFloat16)));
}

// A thousand steps of 1e-5, each too small for bfloat16 (2^-8 between 0.5 and 1).
TEST(WeightFormsTest, StepsTooSmallForBfloat16AddUpWhereTheyAreRoundedAtRandom) {
  const int64_t n = 4096;
  const auto moved = [&](bool rounds) {
    Param param{.name = "a", .copy = at::full({n}, 0.75, at::kBFloat16), .rounds = rounds};
    if (!rounds) param.master = at::full({n}, 0.75);
    const auto optimizer = make_optimizer(SgdConfig{.lr = 1e-5, .momentum = 0, .nesterov = false}, {param});
    for (uint32_t step = 0; step < 1000; ++step) {
      optimizer->params()[0].grad = at::ones({n});
      optimizer->params()[0].rounding = Rng(1).stream(Purpose::rounding, step).next();
      optimizer->step(1e-5);
      if (!rounds) optimizer->params()[0].master.copy_(optimizer->params()[0].copy);  // what rounding to the nearest does
    }
    return optimizer->params()[0].copy.to(at::kDouble).mean().item<double>();
  };
  EXPECT_EQ(moved(false), 0.75);
  EXPECT_NEAR(moved(true), 0.74, 4e-4);
}

TEST(WeightFormsTest, OnlyOneFormOfAWeightIsTaken) {
  Param both{.name = "a", .master = at::ones({2}), .copy = at::ones({2}, at::kBFloat16), .low = at::zeros({2}, at::kShort)};
  test::expect_contains(test::error_message([&] { make_optimizer(AdamWConfig{}, {both}); }), {"a: expected one of a master"});
  Param none{.name = "b", .copy = at::ones({2}, at::kBFloat16)};
  test::expect_contains(test::error_message([&] { make_optimizer(AdamWConfig{}, {none}); }), {"b: expected one of a master"});
}

}  // namespace
}  // namespace emulsion::optim
