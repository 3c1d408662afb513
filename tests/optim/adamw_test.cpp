#include "optim/adamw.h"

#include <gtest/gtest.h>

#include "config/config.h"
#include "core/random.h"
#include "io/safetensors.h"
#include "optim/clip.h"
#include "support/support.h"

namespace emulsion::optim {
namespace {

using test::close;

constexpr AdamWConfig kGoldenConfig = {.lr = 1e-3};  // the rest is as in the golden file

Tensor golden(const std::string& key) {
  static const auto kFile = io::SafetensorsFile::open(test::golden("optim.safetensors"));
  return kFile.tensor(key).clone();
}

std::string numbered(const std::string& prefix, int64_t step, size_t i) {
  return prefix + std::to_string(step) + "." + std::to_string(i);
}

std::vector<Param> golden_params() {
  std::vector<Param> params(4);
  for (size_t i = 0; i < params.size(); ++i) {
    params[i].name = "p" + std::to_string(i);
    params[i].master = golden(numbered("param", 0, i));
  }
  return params;
}

void set_golden_grads(AdamW& adamw, int64_t step) {
  for (size_t i = 0; i < adamw.params().size(); ++i) {
    adamw.params()[i].grad = golden(numbered("grad.", step, i));
  }
}

/// Random parameters: several chunks, odd sizes, a channels_last one.
std::vector<Param> random_params() {
  const Rng rng(5);
  std::vector<Param> params;
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{70001}, {16, 8, 3, 3}, {33, 7}}) {
    Param param;
    param.name = "p" + std::to_string(params.size());
    param.master = rng.normal(shape, Purpose::init, params.size());
    if (shape.size() == 4) param.master = param.master.contiguous(at::MemoryFormat::ChannelsLast);
    params.push_back(param);
  }
  return params;
}

void set_random_grads(AdamW& adamw, int64_t step) {
  for (size_t i = 0; i < adamw.params().size(); ++i) {
    Param& param = adamw.params()[i];
    const Tensor grad = Rng(6).normal(param.master.sizes(), Purpose::noise, step, i);
    param.grad = at::empty_like(param.master).copy_(grad);
  }
}

TEST(AdamWTest, StepsAreThoseOfTorch) {
  AdamW adamw(kGoldenConfig, golden_params());
  for (int64_t step = 0; step < 5; ++step) {
    set_golden_grads(adamw, step);
    adamw.step(1e-3);
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_TRUE(at::allclose(adamw.params()[i].master, golden(numbered("param", step + 1, i)),
                               1e-6, 1e-8))
          << step << " " << i;
    }
  }
  const NamedTensors state = adamw.state();
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(close(state[2 * i].second, golden("exp_avg." + std::to_string(i)), 1e-6));
    EXPECT_TRUE(close(state[2 * i + 1].second, golden("exp_avg_sq." + std::to_string(i)), 1e-6));
  }
}

TEST(AdamWTest, ClippedStepsAreThoseOfTorch) {
  AdamW adamw(kGoldenConfig, golden_params());
  const Tensor norms = golden("clip.total_norm");
  for (int64_t step = 0; step < 5; ++step) {
    set_golden_grads(adamw, step);
    std::vector<Tensor> grads;
    for (const Param& param : adamw.params()) grads.push_back(param.grad);
    const Clip clipped = clip(grads, 1.0);
    EXPECT_NEAR(clipped.norm / norms[step].item<double>(), 1, 1e-6);
    adamw.step(1e-3, clipped.scale);
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_TRUE(at::allclose(adamw.params()[i].master,
                               golden(numbered("clip.param", step + 1, i)), 2e-6, 1e-8));
    }
  }
}

TEST(AdamWTest, LearningRateScaleAndDecaySwitchActPerParameter) {
  AdamW adamw({.weight_decay = 0.1},
              {{.name = "plain", .master = at::full({1}, 2.0)},
               {.name = "scaled", .master = at::full({1}, 2.0), .lr_scale = 0.5},
               {.name = "undecayed", .master = at::full({1}, 2.0), .decays = false}});
  for (Param& param : adamw.params()) param.grad = at::full({1}, 3.0);
  adamw.step(0.01);
  // The first step moves by the whole rate: 2 (1 - 0.01 * 0.1) - 0.01, and so on.
  EXPECT_NEAR(adamw.params()[0].master.item<double>(), 1.988, 1e-6);
  EXPECT_NEAR(adamw.params()[1].master.item<double>(), 1.994, 1e-6);
  EXPECT_NEAR(adamw.params()[2].master.item<double>(), 1.990, 1e-6);
}

TEST(AdamWTest, CopyIsTheRoundedMasterAndAverageMovesByTheDecay) {
  std::vector<Param> params = random_params();
  for (Param& param : params) {
    param.copy = param.master.to(at::kBFloat16);
    param.ema = param.master.clone();
  }
  AdamW adamw({}, params);
  set_random_grads(adamw, 0);
  adamw.params()[0].grad[5] = std::numeric_limits<float>::quiet_NaN();
  std::vector<Tensor> before;
  for (const Param& param : adamw.params()) before.push_back(param.ema.clone());
  adamw.step(1e-2, 1, 0.75);
  for (size_t i = 0; i < params.size(); ++i) {
    const Param& param = adamw.params()[i];
    const Tensor rounded = param.master.to(at::kBFloat16);
    EXPECT_TRUE(at::equal(param.copy.nan_to_num(7), rounded.nan_to_num(7))) << i;
    const Tensor expected = 0.75 * before[i] + 0.25 * param.master;
    EXPECT_TRUE(close(param.ema.nan_to_num(7), expected.nan_to_num(7), 1e-6)) << i;
  }
  EXPECT_TRUE(adamw.params()[0].copy[5].isnan().item<bool>());
}

TEST(AdamWTest, LayoutOfTheGradientDoesNotMatter) {
  AdamW same(AdamWConfig{}, random_params()), other(AdamWConfig{}, random_params());
  set_random_grads(same, 0);
  set_random_grads(other, 0);
  for (Param& param : other.params()) param.grad = param.grad.contiguous();
  EXPECT_NE(other.params()[1].grad.strides(), other.params()[1].master.strides());
  other.params()[2].grad = other.params()[2].grad.t().contiguous().t();
  same.step(1e-2);
  other.step(1e-2);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(at::equal(same.params()[i].master, other.params()[i].master)) << i;
  }
}

TEST(AdamWTest, Bfloat16GradientsCountAsTheirFloat32Values) {
  AdamW half(AdamWConfig{}, random_params()), whole(AdamWConfig{}, random_params());
  set_random_grads(half, 0);
  for (size_t i = 0; i < 3; ++i) {
    half.params()[i].grad = half.params()[i].grad.to(at::kBFloat16);
    whole.params()[i].grad = half.params()[i].grad.to(at::kFloat);
  }
  half.step(1e-2);
  whole.step(1e-2);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(at::equal(half.params()[i].master, whole.params()[i].master)) << i;
  }
}

TEST(AdamWTest, ThreadsDoNotChangeAStep) {
  AdamW one(AdamWConfig{}, random_params()), two(AdamWConfig{}, random_params());
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  set_random_grads(one, 0);
  one.step(1e-2);
  at::set_num_threads(3);
  set_random_grads(two, 0);
  two.step(1e-2);
  at::set_num_threads(threads);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(at::equal(one.params()[i].master, two.params()[i].master)) << i;
  }
}

TEST(AdamWTest, AParameterWithoutGradientStaysAndDoesNotAge) {
  AdamW adamw({}, random_params());
  set_random_grads(adamw, 0);
  adamw.params()[1].grad = Tensor();
  const Tensor before = adamw.params()[1].master.clone();
  adamw.step(1e-2);
  EXPECT_TRUE(at::equal(adamw.params()[1].master, before));
  EXPECT_TRUE(at::equal(adamw.state().back().second, at::tensor({1, 0, 1}, at::kLong)));
}

TEST(AdamWTest, ContinuesFromAFileBitForBit) {
  AdamW whole({}, random_params());
  std::vector<Param> saved;
  const test::TempFolder folder;
  for (int64_t step = 0; step < 6; ++step) {
    if (step == 3) {
      io::write_safetensors(folder / "state.safetensors", whole.state());
      for (const Param& param : whole.params()) {
        saved.push_back({.name = param.name, .master = param.master.clone()});
      }
    }
    set_random_grads(whole, step);
    whole.step(1e-2);
  }
  AdamW resumed({}, saved);
  resumed.load_state(io::SafetensorsFile::open(folder / "state.safetensors").tensors());
  for (int64_t step = 3; step < 6; ++step) {
    set_random_grads(resumed, step);
    resumed.step(1e-2);
  }
  for (size_t i = 0; i < saved.size(); ++i) {
    EXPECT_TRUE(at::equal(whole.params()[i].master, resumed.params()[i].master)) << i;
  }
}

TEST(AdamWTest, RefusesAStateOfOtherParameters) {
  AdamW adamw({}, random_params());
  NamedTensors state = adamw.state();
  state[0].first = "q.exp_avg";
  const auto missing = test::error_message([&] { adamw.load_state(state); });
  EXPECT_NE(missing.find("'p0.exp_avg'"), std::string::npos) << missing;
  state = adamw.state();
  state[0].second = at::zeros({3});
  const auto shape = test::error_message([&] { adamw.load_state(state); });
  EXPECT_NE(shape.find("expected shape [70001], got [3]"), std::string::npos) << shape;
}

TEST(AdamWTest, RefusesTensorsThatDoNotFitTogether) {
  std::vector<Param> params = random_params();
  params[1].copy = params[1].master.contiguous().to(at::kBFloat16);  // another layout
  const auto layout = test::error_message([&] { AdamW(AdamWConfig{}, params); });
  EXPECT_NE(
      layout.find("p1: expected a copy of type BFloat16, shape [16,8,3,3], strides [72,1,24,8]"),
      std::string::npos)
      << layout;
  AdamW adamw({}, random_params());
  adamw.params()[2].grad = at::zeros({7, 33});
  const auto grad = test::error_message([&] { adamw.step(1e-2); });
  EXPECT_NE(grad.find("p2: expected a gradient [33,7], got [7,33]"), std::string::npos) << grad;
}

TEST(AdamWTest, ConfigReadsFromToml) {
  const auto config = config::from_toml<AdamWConfig>("lr = 2e-5\nbeta2 = 0.99\n", "run.toml");
  EXPECT_EQ(config.lr, 2e-5);
  EXPECT_EQ(config.beta1, 0.9);
  EXPECT_EQ(config.beta2, 0.99);
}

}  // namespace
}  // namespace emulsion::optim
