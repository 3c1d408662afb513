// Optimizer, moving average and masters together: their state, what a gradient that is not finite does, and settling.
#include <cmath>

#include "core/device.h"
#include "core/error.h"
#include "train/gradient_taker.h"
#include "train/methods.h"
#include "train/tiny_runs.h"
#include "train/trainer.h"

namespace emulsion::train {
namespace {

/// Two tensors that train, and nothing else.
class TwoTensors : public Method {
 public:
  explicit TwoTensors(at::ScalarType dtype = at::kFloat)
      : weight(Rng(1).normal({6, 5}, Purpose::init).to(dtype).set_requires_grad(true)),
        bias(Rng(2).normal({5}, Purpose::init).to(dtype).set_requires_grad(true)) {}
  std::string describe() const override { return "two tensors"; }
  std::vector<Trainable> trainables() override { return {{"a.weight", &weight}, {"a.bias", &bias, false}}; }
  Loss loss(const data::Batch&, const StepAddress&) override { return {}; }
  Tensor preview(const data::BatchSource&, Reporter&) override { return {}; }
  std::filesystem::path save_result(const std::filesystem::path&) override { return {}; }

  Tensor weight, bias;
};

/// How the trained weights are held.
struct Weights {
  at::ScalarType dtype;
  bool rounds;  // at random, without a float32 half
};

RunConfig learner_config(bool rounds = false) {
  RunConfig config;
  config.stochastic_rounding = rounds;
  config.steps = 20;
  config.clip = 0.5;
  config.optimizer = optim::AdamWConfig{.lr = 1e-2};
  config.schedule.shape = optim::LrSchedule::cosine;
  config.ema.enabled = true;
  config.ema.decay = 0.9;
  return config;
}

void give_gradients(TwoTensors& method, int64_t step) {
  const auto like = [&](const Tensor& x, uint64_t index) {
    return Rng(7).normal(x.sizes(), Purpose::noise, static_cast<uint64_t>(step), index).to(x.scalar_type());
  };
  method.weight.mutable_grad() = like(method.weight, 0);
  method.bias.mutable_grad() = like(method.bias, 1);
}

StepStats step(TwoTensors& method, Learner& learner, int64_t k) {
  learner.begin(k);
  give_gradients(method, k);
  return learner.update();
}

class LearnerTest : public ::testing::TestWithParam<Weights> {};

TEST_P(LearnerTest, AStateGoesOnBitForBitInANewProcess) {
  const RunConfig config = learner_config(GetParam().rounds);
  TwoTensors method(GetParam().dtype), resumed(GetParam().dtype);
  Learner learner(config, method);
  for (int64_t k = 0; k < 4; ++k) step(method, learner, k);
  // Through a file, as a checkpoint goes.
  const test::TempFolder folder;
  io::write_safetensors(folder / "state.safetensors", learner.state());
  Learner other(config, resumed);
  other.load_state(io::SafetensorsFile::open(folder / "state.safetensors").tensors());
  EXPECT_TRUE(at::equal(resumed.weight, method.weight));
  for (int64_t k = 4; k < 8; ++k) {
    const StepStats a = step(method, learner, k), b = step(resumed, other, k);
    EXPECT_EQ(a.grad_norm, b.grad_norm);
    EXPECT_EQ(a.lr, b.lr);
  }
  const auto expected = learner.state(), actual = other.state();
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(expected[i].first, actual[i].first);
    EXPECT_TRUE(at::equal(expected[i].second, actual[i].second)) << expected[i].first;
  }
  EXPECT_TRUE(at::equal(resumed.weight, method.weight));
  EXPECT_TRUE(at::equal(resumed.bias, method.bias));
}

TEST_P(LearnerTest, AGradientThatIsNotFiniteChangesNothingAndIsNamedWithItsStep) {
  for (const float bad : {NAN, INFINITY}) {
    TwoTensors method(GetParam().dtype);
    const RunConfig config = learner_config(GetParam().rounds);
    Learner learner(config, method);
    step(method, learner, 0);
    std::vector<Tensor> before;
    for (const auto& [name, tensor] : learner.state()) before.push_back(tensor.clone());
    learner.begin(1);
    give_gradients(method, 1);
    method.bias.mutable_grad()[2] = bad;
    test::expect_contains(test::error_message([&] { learner.update(); }), {"step 2", "'a.bias'", "optimizer.lr"});
    const auto after = learner.state();
    for (size_t i = 0; i < after.size(); ++i) EXPECT_TRUE(at::equal(after[i].second, before[i])) << after[i].first;
  }
}

TEST_P(LearnerTest, UpdatesFollowTheScheduleAndClearTheGradients) {
  TwoTensors method(GetParam().dtype);
  const RunConfig config = learner_config(GetParam().rounds);
  Learner learner(config, method);
  const Tensor before = method.weight.detach().clone();
  const StepStats first = step(method, learner, 0);
  EXPECT_EQ(first.step, 1);
  EXPECT_DOUBLE_EQ(first.lr, 1e-2);
  EXPECT_FALSE(method.weight.grad().defined());
  EXPECT_FALSE(at::equal(method.weight, before));
  EXPECT_NEAR(step(method, learner, 10).lr, 5e-3, 1e-12);  // half-way down the cosine
}

TEST_P(LearnerTest, AveragesStandInForTheWeightsAndSettleForGood) {
  TwoTensors method(GetParam().dtype);
  const RunConfig config = learner_config(GetParam().rounds);
  Learner learner(config, method);
  for (int64_t k = 0; k < 5; ++k) step(method, learner, k);
  const Tensor average = learner.params()[0].ema.clone(), trained = method.weight.detach().clone();
  {
    const auto swapped = learner.averaged();
    EXPECT_TRUE(at::equal(method.weight, average.to(GetParam().dtype)));
  }
  EXPECT_TRUE(at::equal(method.weight, trained));
  learner.settle();
  EXPECT_TRUE(at::equal(method.weight, average));  // float32, whatever the network computed in
  EXPECT_EQ(method.weight.scalar_type(), at::kFloat);
}

TEST_P(LearnerTest, AnOptimizerThatAveragesByItselfIsDrawnAndSavedByItsAverage) {
  TwoTensors method(GetParam().dtype);
  RunConfig config = learner_config(GetParam().rounds);
  config.optimizer = optim::ScheduleFreeConfig{.lr = 1e-2};
  test::expect_contains(test::error_message([&] { Learner(config, method); }), {"ema.enabled", "averages the weights by itself"});
  config.ema.enabled = false;
  Learner learner(config, method);
  for (int64_t k = 0; k < 5; ++k) step(method, learner, k);
  const Tensor average = learner.params()[0].ema.clone(), trained = method.weight.detach().clone();
  EXPECT_FALSE(at::equal(average.to(GetParam().dtype), trained));
  {
    const auto swapped = learner.averaged();
    EXPECT_TRUE(at::equal(method.weight, average.to(GetParam().dtype)));
  }
  EXPECT_TRUE(at::equal(method.weight, trained));
  learner.settle();
  EXPECT_TRUE(at::equal(method.weight, average));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, LearnerTest,
                         ::testing::Values(Weights{at::kFloat, false}, Weights{at::kBFloat16, false}, Weights{at::kBFloat16, true}));

/// One step through the graph, as a run takes it.
StepStats step_by_graph(TwoTensors& method, Learner& learner, int64_t k, double factor = 1) {
  learner.begin(k);
  const Tensor x = Rng(7).normal({4, 6}, Purpose::noise, static_cast<uint64_t>(k));
  learner.backward(4, 1, [&](int64_t, int64_t) -> Loss {
    const Tensor y = x.mm(method.weight.to(at::kFloat)) + method.bias.to(at::kFloat);
    return {(y.square().mean() * factor), y.square().mean(1), {}};
  });
  return learner.update();
}

RunConfig fused_config(bool fused, bool rounds) {
  RunConfig config = learner_config(rounds);
  config.clip_by = optim::ClipBy::tensor_norm;
  config.fused_backward_pass = fused;
  return config;
}

TEST_P(LearnerTest, UpdatesDuringTheBackwardPassAreThoseAfterIt) {
  TwoTensors first(GetParam().dtype), second(GetParam().dtype);
  const RunConfig after = fused_config(false, GetParam().rounds), during = fused_config(true, GetParam().rounds);
  Learner plain(after, first), fused(during, second);
  for (int64_t k = 0; k < 6; ++k) {
    const StepStats a = step_by_graph(first, plain, k), b = step_by_graph(second, fused, k);
    EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-12 * a.grad_norm);
    EXPECT_EQ(a.lr, b.lr);
    EXPECT_FALSE(second.weight.grad().defined());
  }
  const auto expected = plain.state(), actual = fused.state();
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(at::equal(expected[i].second, actual[i].second)) << expected[i].first;
}

// Nothing is lost by a loss that is not finite; of a gradient, what came before it.
TEST_P(LearnerTest, WhatIsNotFiniteIsFoundDuringTheBackwardPassToo) {
  TwoTensors method(GetParam().dtype);
  const RunConfig config = fused_config(true, GetParam().rounds);
  Learner learner(config, method);
  step_by_graph(method, learner, 0);
  const Tensor before = method.weight.detach().clone();
  learner.begin(1);
  const Loss loss = learner.backward(4, 1, [&](int64_t, int64_t) -> Loss { return {method.weight.sum() * NAN, at::full({4}, NAN), {}}; });
  EXPECT_TRUE(loss.value.isnan().item<bool>());
  EXPECT_TRUE(at::equal(method.weight, before));
  learner.forget_gradients();
  // The root of 0 is finite, its slope is not.
  learner.begin(1);
  learner.backward(4, 1, [&](int64_t, int64_t) -> Loss { return {(method.bias * 0).sqrt().sum(), at::zeros({4}), {}}; });
  test::expect_contains(test::error_message([&] { learner.update(); }), {"step 2", "'a.bias'", "last checkpoint"});
}


// A U-Net with its text encoder, blocks kept or computed again: whether gradients are used at the end or on the way changes no bit.
TEST(LearnerTest, UpdatesOnTheWayAreTheSameThroughAWholeModel) {
  const auto trained = [](GradientCheckpointing when, bool fused) {
    RunConfig config = fused_config(fused, /*rounds=*/false);
    config.method = DiffusionMethod{};
    config.lanes = 1;
    config.gradient_checkpointing = when;
    models::Model model = test::tiny_model();
    const int64_t channels = model.unet->net.config().in_channels, words = model.tokenizer->vocab_size();
    const auto method = make_diffusion_method(config, std::move(model));
    Learner learner(config, *method);
    for (uint64_t k = 0; k < 3; ++k) {
      DenoisingInputs inputs;
      inputs.latents = Rng(1).normal({2, channels, 4, 4}, Purpose::latent, k);
      inputs.noise = Rng(1).normal({2, channels, 4, 4}, Purpose::noise, k);
      inputs.timesteps = at::tensor({int64_t{100}, int64_t{800}});
      const Tensor ids = at::arange(2 * models::kClipLength, at::kLong).view({2, -1}).remainder(words);
      learner.begin(static_cast<int64_t>(k));
      learner.backward(2, 1, [&](int64_t, int64_t) { return method->replay(inputs, ids); });
      learner.update();
    }
    NamedTensors state;
    for (const auto& [name, tensor] : learner.state()) state.emplace_back(name, tensor.clone());
    return state;
  };
  const NamedTensors kept = trained(GradientCheckpointing::never, false), again = trained(GradientCheckpointing::always, false);
  const NamedTensors kept_fused = trained(GradientCheckpointing::never, true), again_fused = trained(GradientCheckpointing::always, true);
  ASSERT_GT(kept.size(), 300u);
  ASSERT_EQ(kept.size(), again_fused.size());
  for (size_t i = 0; i < kept.size(); ++i) {
    const std::string& name = kept[i].first;
    EXPECT_TRUE(at::equal(kept[i].second, kept_fused[i].second)) << name;
    EXPECT_TRUE(at::equal(again[i].second, again_fused[i].second)) << name;
  }
}

TEST(GradientTakerTest, TakesEachGradientAndLetsErrorsOutAsTheyAre) {
  Tensor x = at::ones({3}).set_requires_grad(true);
  {
    const GradientTaker none({&x}, [](size_t, const Tensor&) { throw Error(ErrorCode::numeric, "not finite"); });
    try {
      (x * 2).sum().backward();
      FAIL() << "expected an Error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::numeric);
    }
    EXPECT_FALSE(x.grad().defined());
  }
  (x * 2).sum().backward();  // nobody takes it any more
  EXPECT_TRUE(at::equal(x.grad(), at::full({3}, 2.0)));
}

TEST(LearnerTest, AStateOfAnotherRunIsRefusedByName) {
  TwoTensors method;
  const RunConfig config = learner_config();
  Learner learner(config, method);
  NamedTensors state;
  for (const auto& [name, tensor] : learner.state()) {
    if (name != "weight/a.bias") state.emplace_back(name, tensor);
  }
  test::expect_contains(test::error_message([&] { learner.load_state(state); }), {"'a.bias'", "another run"});
}

}  // namespace
}  // namespace emulsion::train
