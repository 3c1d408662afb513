// Every optimizer of a run file: ten steps as its own package takes them, and what all must keep to.
#include "optim/config.h"

#include <gtest/gtest.h>

#include <ATen/Parallel.h>

#include "core/random.h"
#include "golden_optimizers.h"
#include "optim/eight_bit.h"

namespace emulsion::optim {
namespace {

TEST(OptimizersTest, TenStepsAreThoseOfTheReferences) {
  for (const auto& [name, config] : golden_configs()) {
    if (name == "adamw") continue;  // adamw_test.cpp
    const auto optimizer = make_optimizer(config, starting_params());
    for (int64_t step = 0; step < 10; ++step) {
      take_steps(*optimizer, learning_rate(config), step, step + 1);
      for (size_t i = 0; i < 4; ++i) {
        const Tensor expected = golden_optimizers().tensor(numbered_name(name + ".", step + 1, i));
        EXPECT_TRUE(test::close(optimizer->params()[i].master, expected, kTolerance)) << name << " " << step << " " << i;
      }
    }
    EXPECT_FALSE(at::equal(optimizer->params()[0].master, starting_params()[0].master)) << name;
  }
}

TEST(OptimizersTest, ScheduleFreeRunsEndWithTheAverageOfTheReference) {
  for (const std::string name : {"schedule_free", "schedule_free_decay"}) {
    const OptimizerConfig config = golden_configs().at(name);
    const auto optimizer = make_optimizer(config, starting_params());
    take_steps(*optimizer, learning_rate(config), 0, 10);
    ASSERT_TRUE(optimizer->averages());
    for (size_t i = 0; i < 4; ++i) {
      const Tensor expected = golden_optimizers().tensor(name + ".average." + std::to_string(i));
      EXPECT_TRUE(test::close(optimizer->params()[i].ema, expected, kTolerance)) << name << " " << i;
    }
  }
}

// A number that lies in the middle between two of the 256 may be rounded to the other one, which a step of 0.01 then shows by up to
// a fifth, in a few places of 4400.
TEST(OptimizersTest, EightBitAveragesAreThoseOfBitsandbytes) {
  const AdamW8bitConfig config{.lr = 1e-2, .weight_decay = 0.1};
  for (const bool turned : {false, true}) {  // blocks follow the memory
    Param param{.name = "large", .master = golden_optimizers().tensor("8bit.start").clone()};
    if (turned) param.master = param.master.view({4, 11, 10, 10});
    const auto optimizer = make_optimizer(config, {param});
    for (int64_t step = 0; step < 4; ++step) {
      optimizer->params()[0].grad = golden_optimizers().tensor("8bit.grad." + std::to_string(step)).view(param.master.sizes());
      optimizer->step(config.lr);
      const Tensor expected = golden_optimizers().tensor("8bit." + std::to_string(step + 1));
      const Tensor difference = (optimizer->params()[0].master.view(expected.sizes()) - expected).abs();
      EXPECT_LE(difference.gt(2e-6).sum().item<int64_t>(), 8) << step;
      EXPECT_LT(difference.max().item<double>(), 2e-3) << step;
    }
    int64_t bytes = 0;
    for (const auto& [name, tensor] : optimizer->state()) bytes += tensor.nbytes();
    EXPECT_LT(bytes, 2.1 * 4400 + 64 * 4 + 512);
  }
}

// Every float32 between the numbers: their bounds, what lies beside these, and 100,000 others.
TEST(OptimizersTest, TheShortWayToEightBitsEndsAtTheNearestNumber) {
  for (const bool with_sign : {true, false}) {
    const kernels::EightBitTable& table = eight_bit_table(with_sign);
    const Tensor numbers = at::tensor(at::ArrayRef<float>(table.numbers.data(), table.numbers.size()));
    const Tensor bounds = (numbers.slice(0, 0, -1) + numbers.slice(0, 1)) / 2;
    Tensor values = at::cat({at::ones({1}), numbers, bounds, at::nextafter(bounds, at::ones({1})), at::nextafter(bounds, -at::ones({1})),
                             Rng(1).normal({50'000}, Purpose::noise).clamp(-1, 1),
                             at::pow(10, Rng(2).normal({50'000}, Purpose::noise).mul(3).clamp(-8, 0))});
    if (!with_sign) values.abs_();
    for (int64_t at = 0; at < values.numel(); at += 255) {  // one place of a block for the scale
      const Tensor block = at::cat({at::ones({1}), values.slice(0, at, at + 255)});
      Tensor fast = at::empty_like(block, at::kByte);
      EXPECT_EQ(kernels::to_eight_bit(table, block.const_data_ptr<float>(), fast.data_ptr<uint8_t>(), block.numel()), 1);
      ASSERT_TRUE(at::equal(fast.to(at::kLong), at::bucketize(block, bounds))) << with_sign << " " << at;
    }
    const Tensor some = Rng(3).normal({1000}, Purpose::noise).mul(with_sign ? 3 : 0.3).abs_();
    const Moment moment = eight_bit_zeros(1000, at::kCPU);
    write_eight_bit(moment, some, with_sign);
    EXPECT_TRUE(test::close(read_eight_bit(moment, 1000, with_sign), some, 0.02)) << with_sign;
    float read[kernels::kEightBitBlock];
    kernels::from_eight_bit(table, moment.values.const_data_ptr<uint8_t>() + 256, moment.scales[1].item<float>(), read, 256);
    EXPECT_TRUE(at::equal(at::from_blob(read, {256}), read_eight_bit(moment, 1000, with_sign).slice(0, 256, 512))) << with_sign;
  }
}

TEST(OptimizersTest, SmallTensorsKeepTheirAveragesInFloat32) {
  const auto small = make_optimizer(AdamW8bitConfig{}, starting_params()), plain = make_optimizer(AdamWConfig{}, starting_params());
  take_steps(*small, 1e-2, 0, 10);
  take_steps(*plain, 1e-2, 0, 10);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(test::close(small->params()[i].master, plain->params()[i].master, kTolerance)) << i;
  }
}

// The iterations' polynomial of the singular values, by a decomposition in float64; square, wide and tall matrices take two ways.
TEST(OptimizersTest, MuonsStepHasTheSingularVectorsOfItsGradient) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{24, 24}, {24, 35}, {24, 96}, {96, 24}}) {
    const Tensor grad = Rng(1).normal({rows, columns}, Purpose::noise);
    const auto muon = make_optimizer(MuonConfig{.rate = MuonRate::original, .weight_decay = 0},
                                     {Param{.name = "a", .master = at::zeros({rows, columns})}});
    muon->params()[0].grad = grad;
    muon->step(1);
    const auto [u, s, vh] = at::linalg_svd(grad.to(at::kDouble), false);
    Tensor values = s / s.norm();
    for (int64_t i = 0; i < 5; ++i) values = 3.4445 * values - 4.7750 * values.pow(3) + 2.0315 * values.pow(5);
    const double factor = std::sqrt(std::max(1.0, static_cast<double>(rows) / static_cast<double>(columns)));
    EXPECT_TRUE(test::close(muon->params()[0].master, -factor * u.mul(values).mm(vh), 2e-5)) << rows << " " << columns;
  }
}

TEST(OptimizersTest, MuonLeavesTheNamedMatricesToAdamW) {
  const MuonConfig config{.adamw_names = {"p0"}};
  const auto muon = make_optimizer(config, starting_params());
  const AdamWConfig adam{.beta2 = config.beta2, .weight_decay = config.weight_decay};
  const auto adamw = make_optimizer(adam, starting_params());
  take_steps(*muon, 1e-2, 0, 3);
  take_steps(*adamw, 1e-2, 0, 3);
  EXPECT_TRUE(test::close(muon->params()[0].master, adamw->params()[0].master, kTolerance));
  EXPECT_TRUE(test::close(muon->params()[1].master, adamw->params()[1].master, kTolerance));
  EXPECT_FALSE(test::close(muon->params()[2].master, adamw->params()[2].master, 1e-3));
}

TEST(OptimizersTest, ASavedStateGoesOnToTheSameBits) {
  for (const auto& [name, config] : golden_configs()) {
    const double lr = learning_rate(config);
    const auto whole = make_optimizer(config, starting_params());
    take_steps(*whole, lr, 0, 10);
    const auto first = make_optimizer(config, starting_params());
    take_steps(*first, lr, 0, 4);
    NamedTensors state;
    for (const auto& [key, value] : first->state()) state.emplace_back(key, value.clone());
    std::vector<Param> params = starting_params();
    for (size_t i = 0; i < params.size(); ++i) params[i].master = first->params()[i].master.clone();
    const auto second = make_optimizer(config, params);
    second->load_state(state);
    take_steps(*second, lr, 4, 10);
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_TRUE(at::equal(second->params()[i].master, whole->params()[i].master)) << name << " " << i;
    }
    NamedTensors damaged(state.begin() + 1, state.end());
    EXPECT_NE(test::error_message([&] { second->load_state(damaged); }), "") << name;
  }
}

TEST(OptimizersTest, TheNumberOfThreadsChangesNoBit) {
  const int before = at::get_num_threads();
  for (const auto& [name, config] : golden_configs()) {
    const auto run = [&, &config = config](int threads) {
      at::set_num_threads(threads);
      Param param;
      param.name = "large";
      param.master = Rng(1).normal({300, 301}, Purpose::init);
      const auto optimizer = make_optimizer(config, {param});
      for (uint64_t step = 0; step < 3; ++step) {
        optimizer->params()[0].grad = Rng(2).normal({300, 301}, Purpose::noise, step);
        optimizer->step(learning_rate(config));
      }
      return optimizer->params()[0].master;
    };
    EXPECT_TRUE(at::equal(run(1), run(2))) << name;
  }
  at::set_num_threads(before);
}

TEST(OptimizersTest, CopiesAndAveragesFollowAndWhatHasNoGradientStays) {
  for (const auto& [name, config] : golden_configs()) {
    std::vector<Param> params = starting_params();
    params[0].copy = params[0].master.to(at::kBFloat16);
    params[0].ema = params[0].master.clone();
    const Tensor start = params[0].master.clone(), untouched = params[1].master.clone();
    const auto optimizer = make_optimizer(config, params);
    set_gradients(*optimizer, 0);
    optimizer->params()[1].grad = Tensor();
    optimizer->step(learning_rate(config), 1, 0.75);
    const Param& moved = optimizer->params()[0];
    EXPECT_TRUE(at::equal(moved.copy, moved.master.to(at::kBFloat16))) << name;
    if (!optimizer->averages()) {
      EXPECT_TRUE(test::close(moved.ema, 0.75 * start + 0.25 * moved.master, 1e-6)) << name;
    }
    EXPECT_TRUE(at::equal(optimizer->params()[1].master, untouched)) << name;
  }
}

TEST(OptimizersTest, ScaledGradientsAreGradientsTimesTheScaleAndRatesAreTheParametersOwn) {
  for (const auto& [name, config] : golden_configs()) {
    const double lr = learning_rate(config);
    const auto halved = make_optimizer(config, starting_params()), scaled = make_optimizer(config, starting_params());
    set_gradients(*halved, 0);
    for (Param& param : halved->params()) param.grad.mul_(0.5);
    halved->step(lr);
    set_gradients(*scaled, 0);
    scaled->step(lr, 0.5);
    EXPECT_TRUE(test::close(scaled->params()[0].master, halved->params()[0].master, 1e-6)) << name;
    std::vector<Param> slow = starting_params();
    slow[0].lr_scale = 0;
    const auto still = make_optimizer(config, slow);
    set_gradients(*still, 0);
    still->step(lr);
    EXPECT_TRUE(at::equal(still->params()[0].master, starting_params()[0].master)) << name;
    EXPECT_FALSE(at::equal(still->params()[2].master, starting_params()[2].master)) << name;
  }
}

TEST(OptimizersTest, TheStateTakesTheBytesThatAreSaid) {
  for (const auto& [name, config] : golden_configs()) {
    Param param{.name = "large", .master = Rng(1).normal({300, 301}, Purpose::init)};
    const auto optimizer = make_optimizer(config, {param});
    optimizer->params()[0].grad = Rng(2).normal({300, 301}, Purpose::noise);
    optimizer->step(learning_rate(config));
    double bytes = 0;
    for (const auto& [key, tensor] : optimizer->state()) bytes += static_cast<double>(tensor.nbytes());
    EXPECT_NEAR(bytes / (300 * 301), state_bytes(config), 0.1) << name;
  }
}

TEST(OptimizersTest, ArgumentsOfAnotherOptimizerAreRefused) {
  const std::string message = test::error_message([] { config_of({{"type", "lion"}, {"momentum", 0.9}}); });
  EXPECT_NE(message.find("momentum"), std::string::npos) << message;
  EXPECT_NE(test::error_message([] { config_of({{"type", "lyon"}}); }).find("lion"), std::string::npos);
  EXPECT_TRUE(std::holds_alternative<AdamWConfig>(config_of({{"lr", 0.5}})));
}

}  // namespace
}  // namespace emulsion::optim
