// Every optimizer of a run file: ten steps as its own package takes them, and what all must keep to.
//
// Tolerance: 2e-6 of the largest weight, float32; the packages order a few factors differently. Lion's steps are signs, and were
// equal.
#include "optim/config.h"

#include <gtest/gtest.h>

#include <ATen/Parallel.h>
#include <nlohmann/json.hpp>

#include "config/config.h"
#include "core/random.h"
#include "io/safetensors.h"
#include "optim/eight_bit.h"
#include "support/support.h"

namespace emulsion::optim {
namespace {

constexpr double kTolerance = 2e-6;

struct OptimizerFile {
  OptimizerConfig optimizer;
  template <class V>
  void fields(V& v) {
    v("optimizer", optimizer, "");
  }
};

const io::SafetensorsFile& golden_optimizers() {
  static const auto kFile = io::SafetensorsFile::open(test::golden("optimizers.safetensors"));
  return kFile;
}

/// {"lr": 0.1, ...} as a run file says it.
OptimizerConfig config_of(const nlohmann::json& keys) {
  std::string text = "[optimizer]\n";
  for (const auto& [key, value] : keys.items()) text += key + " = " + value.dump() + "\n";
  return config::from_toml<OptimizerFile>(text, "run.toml").optimizer;
}

std::map<std::string, OptimizerConfig> golden_configs() {
  std::map<std::string, OptimizerConfig> all;
  const auto cases = nlohmann::json::parse(golden_optimizers().metadata().at("cases"));
  for (const auto& [name, keys] : cases.items()) all[name] = config_of(keys);
  all["adamw"] = AdamWConfig{};
  return all;
}

std::string numbered_name(const std::string& prefix, int64_t step, size_t i) {
  return prefix + std::to_string(step) + "." + std::to_string(i);
}

std::vector<Param> starting_params() {
  std::vector<Param> params(4);
  for (size_t i = 0; i < params.size(); ++i) {
    params[i].name = "p" + std::to_string(i);
    params[i].master = golden_optimizers().tensor("start." + std::to_string(i)).clone();
  }
  return params;
}

void set_gradients(Optimizer& optimizer, int64_t step) {
  for (size_t i = 0; i < optimizer.params().size(); ++i) {
    optimizer.params()[i].grad = golden_optimizers().tensor(numbered_name("grad.", step, i)).clone();
  }
}

void take_steps(Optimizer& optimizer, double lr, int64_t from, int64_t to, double ema_decay = 0) {
  for (int64_t step = from; step < to; ++step) {
    set_gradients(optimizer, step);
    optimizer.step(lr, 1, ema_decay);
  }
}

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
TEST(OptimizersTest, AWeightInHalvesTakesTheSameStepsAsAMaster) {
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
TEST(OptimizersTest, AWeightOfBfloat16AloneIsTheFloat32StepRoundedAtRandom) {
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

TEST(OptimizersTest, ALargeWeightTakesTheStepsThatItsNumbersTakeApart) {
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
TEST(OptimizersTest, RoundingAtRandomIsRightOnAverageAndKeepsWhatBfloat16CanSay) {
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
TEST(OptimizersTest, StepsTooSmallForBfloat16AddUpWhereTheyAreRoundedAtRandom) {
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

TEST(OptimizersTest, OnlyOneFormOfAWeightIsTaken) {
  Param both{.name = "a", .master = at::ones({2}), .copy = at::ones({2}, at::kBFloat16), .low = at::zeros({2}, at::kShort)};
  test::expect_contains(test::error_message([&] { make_optimizer(AdamWConfig{}, {both}); }), {"a: expected one of a master"});
  Param none{.name = "b", .copy = at::ones({2}, at::kBFloat16)};
  test::expect_contains(test::error_message([&] { make_optimizer(AdamWConfig{}, {none}); }), {"b: expected one of a master"});
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
