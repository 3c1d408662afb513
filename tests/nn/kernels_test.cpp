// Group norm and GEGLU against their formulas written with ATen's elementary operations.
//
// float32 is compared with the formula in float64, forward and backward, at 1e-5 of the largest value; bfloat16, with
// its 8 bits, with the formula on the same rounded inputs at 2e-2; float64 gradients with finite differences.
#include "nn/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "nn/formula.h"
#include "support/support.h"

namespace emulsion::nn {
namespace {

constexpr double kEps = 1e-5;

Tensor group_norm_formula(const Inputs& in, int64_t groups, bool silu) {
  const Tensor& x = in[0];
  const Tensor g = x.reshape({x.size(0), groups, -1});
  const Tensor mean = g.mean({2}, true), variance = (g - mean).square().mean({2}, true);
  const Tensor normal = ((g - mean) / (variance + kEps).sqrt()).reshape(x.sizes());
  const Tensor y = normal * in[1].view({1, -1, 1, 1}) + in[2].view({1, -1, 1, 1});
  return silu ? y / (1 + (-y).exp()) : y;
}

Tensor geglu_formula(const Inputs& in) {
  const auto halves = in[0].chunk(2, -1);
  return halves[0] * halves[1] * 0.5 * (1 + (halves[1] / std::sqrt(2.0)).erf());
}

struct NormCase {
  int64_t batch, channels, height, width, groups;
};
const NormCase kNormCases[] = {{2, 8, 5, 7, 4},   {1, 16, 16, 16, 8}, {3, 4, 1, 1, 1},  {2, 12, 3, 3, 4},
                               {1, 24, 9, 4, 8},  {2, 64, 8, 8, 8},   {1, 32, 33, 1, 1}, {2, 40, 4, 4, 4},
                               {1, 320, 4, 4, 32}};

Inputs norm_inputs(const NormCase& c, at::MemoryFormat format) {
  // A mean far from zero: a variance taken as E[x^2] - E[x]^2 would lose digits here.
  return {(at::randn({c.batch, c.channels, c.height, c.width}) * 2 + 3).contiguous(format),
          at::randn({c.channels}) + 1, at::randn({c.channels})};
}

std::string name(const NormCase& c, bool silu, bool last) {
  std::ostringstream text;
  text << "[" << c.batch << ", " << c.channels << ", " << c.height << ", " << c.width << "], groups " << c.groups
       << (silu ? ", silu" : "") << (last ? ", channels_last" : ", contiguous");
  return text.str();
}

template <class Check>
void for_each_norm(const Check& check) {
  at::manual_seed(1);
  for (const NormCase& c : kNormCases) {
    for (const bool silu : {false, true}) {
      for (const bool last : {false, true}) {
        const auto format = last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
        const Function ours = [&](const Inputs& in) {
          return kernels::group_norm(in[0], in[1], in[2], c.groups, kEps, silu);
        };
        const Function formula = [&](const Inputs& in) { return group_norm_formula(in, c.groups, silu); };
        check(ours, formula, norm_inputs(c, format), name(c, silu, last));
      }
    }
  }
}

TEST(GroupNormTest, Float32IsTheFormulaForwardAndBackward) {
  const int before = at::get_num_threads();
  for (const int threads : {1, 2}) {  // the number of threads may decide which kernel runs
    at::set_num_threads(threads);
    for_each_norm([](const Function& ours, const Function& formula, const Inputs& in, const std::string& what) {
      expect_same(ours, formula, in, at::kFloat, 1e-5, what);
    });
  }
  at::set_num_threads(before);
}

TEST(GroupNormTest, Bfloat16IsTheFormulaWithinItsDigits) {
  for_each_norm([](const Function& ours, const Function& formula, const Inputs& in, const std::string& what) {
    expect_same(ours, formula, in, at::kBFloat16, 2e-2, what);
  });
}

TEST(GroupNormTest, Float64GradientsAreFiniteDifferences) {
  at::manual_seed(2);
  for (const bool silu : {false, true}) {
    const Function ours = [&](const Inputs& in) { return kernels::group_norm(in[0], in[1], in[2], 2, kEps, silu); };
    expect_finite_differences(ours, {at::randn({2, 4, 3, 2}), at::randn({4}), at::randn({4})}, silu ? "silu" : "plain");
  }
}

/// `input` copied to storage that begins `bytes` further on.
Tensor moved(const Tensor& input, int64_t bytes) {
  const int64_t elements = bytes / 4;
  const Tensor flat = at::empty({input.numel() + elements}).narrow(0, elements, input.numel());
  const Tensor copy = flat.as_strided(input.sizes(), input.strides(), flat.storage_offset());
  copy.copy_(input.detach());
  return copy.requires_grad_(true);
}

// A loop that is vector code at some addresses and scalar code at others rounds differently there, and then two runs of
// one seed differ: small tensors lie side by side or apart as the allocator pleases.
TEST(GroupNormTest, BitsDoNotDependOnWhereTheTensorsLie) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  at::manual_seed(9);
  for (const int64_t channels : {4, 8, 16, 24, 64}) {
    for (const bool silu : {false, true}) {
      const Inputs in = norm_inputs({2, channels, 8, 8, 2}, at::MemoryFormat::ChannelsLast);
      const Tensor cotangent = at::randn(in[0].sizes()).contiguous(at::MemoryFormat::ChannelsLast);
      const auto ours = [&](const Inputs& x) { return kernels::group_norm(x[0], x[1], x[2], 2, kEps, silu); };
      const Inputs first = run(ours, cast(in, at::kFloat), cotangent);
      std::vector<Tensor> occupied;  // makes every repetition find other holes in the memory
      int different = 0;
      for (int64_t i = 0; i < 200; ++i) {
        const Inputs again = {moved(in[0], 64 * (i % 7)), moved(in[1], 64 * (i % 5)), moved(in[2], 64 * (i % 3))};
        const Inputs results = run(ours, again, cotangent);
        for (size_t k = 0; k < results.size(); ++k) different += at::equal(results[k], first[k]) ? 0 : 1;
        occupied.push_back(at::empty({1 + (i * 37) % 301}));
      }
      EXPECT_EQ(different, 0) << channels << " channels" << (silu ? ", silu" : "");
    }
  }
  at::set_num_threads(before);
}

TEST(GroupNormTest, FrozenWeightsOrInputsGetNoGradientAndChangeNone) {
  at::manual_seed(3);
  for (const bool train_input : {false, true}) {
    Inputs in = cast(norm_inputs({2, 8, 4, 4, 4}, at::MemoryFormat::ChannelsLast), at::kFloat);
    const Tensor cotangent = at::randn(in[0].sizes());
    const auto ours = [&](const Inputs& x) { return kernels::group_norm(x[0], x[1], x[2], 4, kEps, true); };
    const Inputs all = run(ours, cast(in, at::kFloat), cotangent);
    in[0].set_requires_grad(train_input);
    in[1].set_requires_grad(!train_input);
    in[2].set_requires_grad(!train_input);
    ours(in).backward(cotangent);
    for (size_t i = 0; i < 3; ++i) {
      ASSERT_EQ(in[i].grad().defined(), in[i].requires_grad()) << i;
      if (in[i].requires_grad()) {
        EXPECT_TRUE(test::close(in[i].grad(), all[i + 1], 1e-6)) << i;
      }
    }
  }
}

const std::vector<std::vector<int64_t>> kGegluShapes = {{2, 5, 6}, {1, 1, 2}, {3, 7, 34}, {2, 64, 256}, {9, 10}};

TEST(GegluTest, Float32AndBfloat16AreTheFormulaForwardAndBackward) {
  at::manual_seed(4);
  const Function ours = [](const Inputs& in) { return kernels::geglu(in[0]); };
  for (const auto& shape : kGegluShapes) {
    std::ostringstream what;
    what << at::IntArrayRef(shape);
    const Inputs in = {at::randn(shape) * 2};
    expect_same(ours, geglu_formula, in, at::kFloat, 1e-5, what.str());
    expect_same(ours, geglu_formula, in, at::kBFloat16, 2e-2, what.str());
  }
}

TEST(GegluTest, Float64GradientsAreFiniteDifferences) {
  at::manual_seed(5);
  const Function ours = [](const Inputs& in) { return kernels::geglu(in[0]); };
  expect_finite_differences(ours, {at::randn({2, 3, 8})}, "geglu");
}

TEST(QuickGeluTest, Float32AndBfloat16AreTheFormulaForwardAndBackward) {
  at::manual_seed(10);
  const Function ours = [](const Inputs& in) { return kernels::quick_gelu(in[0]); };
  const Function formula = [](const Inputs& in) { return in[0] / (1 + (-1.702 * in[0]).exp()); };
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{1}, {2, 77, 33}, {3, 5000}, {0, 4}}) {
    std::ostringstream what;
    what << at::IntArrayRef(shape);
    expect_same(ours, formula, {at::randn(shape) * 4}, at::kFloat, 1e-5, what.str());
    expect_same(ours, formula, {at::randn(shape) * 4}, at::kBFloat16, 2e-2, what.str());
  }
}

TEST(QuickGeluTest, FarOutItIsTheIdentityOrZero) {
  const Tensor x = at::tensor({-1e4f, -200.0f, 0.0f, 200.0f, 1e4f}), y = kernels::quick_gelu(x);
  EXPECT_TRUE(at::allclose(y, at::tensor({0.0f, 0.0f, 0.0f, 200.0f, 1e4f}), 0, 1e-30)) << y;
}

}  // namespace
}  // namespace emulsion::nn
