// Blocks that are computed again: the same bits as kept ones, as often as the plan says.
#include "nn/recompute.h"

#include <gtest/gtest.h>

#include "support/support.h"

namespace emulsion::nn {
namespace {

constexpr int kBlocks = 3;

/// A chain of blocks y = tanh(x w + other), which counts how often each is computed.
struct Chain {
  Chain() {
    at::manual_seed(1);
    for (int i = 0; i < kBlocks; ++i) weights.push_back(at::randn({8, 8}).set_requires_grad(true));
    other = at::randn({4, 8}).set_requires_grad(true);
  }

  /// One forward and backward pass; gradients of the weights, then of `other`.
  std::vector<Tensor> pass(Recomputation* plan, const Tensor& input) {
    Tensor x = input;
    {
      const Recomputation::Scope scope(plan);
      for (int i = 0; i < kBlocks; ++i) {
        const auto f = [this, i](const Tensor& at, const Tensor& told) {
          ++computed[i];
          const Tensor sum = at::mm(at, weights[i]);
          return at::tanh(told.defined() ? sum + told.narrow(0, 0, at.size(0)) : sum);
        };
        x = block(f, x, i == 1 ? other : Tensor());
      }
    }
    x.square().sum().backward();
    std::vector<Tensor> gradients;
    for (Tensor& weight : weights) gradients.push_back(std::exchange(weight.mutable_grad(), Tensor()));
    gradients.push_back(std::exchange(other.mutable_grad(), Tensor()));
    return gradients;
  }

  std::vector<int> taken() { return std::exchange(computed, std::vector<int>(kBlocks, 0)); }

  std::vector<Tensor> weights;
  Tensor other;
  std::vector<int> computed = std::vector<int>(kBlocks, 0);
};

void expect_same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].defined(), b[i].defined()) << i;
    if (a[i].defined()) {
      EXPECT_TRUE(at::equal(a[i], b[i])) << i;
    }
  }
}

TEST(RecomputationTest, ABlockThatIsRepeatedHasTheSameGradients) {
  Chain chain;
  const Tensor x = at::randn({4, 8});
  const auto kept = chain.pass(nullptr, x);
  EXPECT_EQ(chain.taken(), (std::vector<int>{1, 1, 1}));
  Recomputation plan;
  expect_same_bits(chain.pass(&plan, x), kept);
  EXPECT_EQ(chain.taken(), (std::vector<int>{2, 2, 2}));
  ASSERT_EQ(plan.costs().size(), 3u);
  plan.keep({false, true, false});
  expect_same_bits(chain.pass(&plan, x), kept);
  EXPECT_EQ(chain.taken(), (std::vector<int>{2, 1, 2}));
  EXPECT_FALSE(plan.outgrown());
}

TEST(RecomputationTest, WhatIsLargerThanMeasuredIsRepeatedAndToldOf) {
  Chain chain;
  Recomputation plan;
  chain.pass(&plan, at::randn({2, 8}));
  plan.keep({true, true, true});
  chain.pass(&plan, at::randn({1, 8}));
  EXPECT_FALSE(plan.outgrown());
  chain.taken();
  chain.pass(&plan, at::randn({4, 8}));
  EXPECT_EQ(chain.taken(), (std::vector<int>{2, 2, 2}));
  EXPECT_TRUE(plan.outgrown());
  plan.forget();
  chain.pass(&plan, at::randn({4, 8}));
  plan.keep({true, true, true});
  chain.taken();
  chain.pass(&plan, at::randn({4, 8}));
  EXPECT_EQ(chain.taken(), (std::vector<int>{1, 1, 1}));
}

TEST(RecomputationTest, BlocksInWhichNothingTrainsAreRepeatedOnceAtMost) {
  Chain chain;
  chain.weights[0].set_requires_grad(false);
  const Tensor x = at::randn({4, 8});
  const auto kept = chain.pass(nullptr, x);
  Recomputation plan;
  chain.pass(&plan, x);
  EXPECT_TRUE(plan.costs()[0].frozen);
  chain.taken();
  expect_same_bits(chain.pass(&plan, x), kept);
  EXPECT_EQ(chain.taken(), (std::vector<int>{1, 2, 2}));
}

TEST(RecomputationTest, WithoutGradientsNothingIsRepeated) {
  Chain chain;
  Recomputation plan;
  const at::NoGradGuard no_grad;
  const Recomputation::Scope scope(&plan);
  const Tensor x = at::randn({4, 8});
  EXPECT_TRUE(at::equal(block([](const Tensor& at, const Tensor&) { return at + 1; }, x, {}), x + 1));
  EXPECT_TRUE(plan.costs().empty());
}

TEST(BlocksToKeepTest, TheMostTimePerByteComesFirst) {
  const std::vector<BlockCost> costs = {{.bytes = 100, .seconds = 1}, {.bytes = 50, .seconds = 1}, {.bytes = 60, .seconds = 0.1}};
  EXPECT_EQ(blocks_to_keep(costs, 1000), (std::vector<bool>{true, true, true}));
  EXPECT_EQ(blocks_to_keep(costs, 150), (std::vector<bool>{true, true, false}));
  EXPECT_EQ(blocks_to_keep(costs, 149), (std::vector<bool>{false, true, true}));  // 100 no longer fit, 60 do
  EXPECT_EQ(blocks_to_keep(costs, 49), (std::vector<bool>{false, false, false}));
  EXPECT_EQ(blocks_to_keep(costs, -1), (std::vector<bool>{false, false, false}));
}

}  // namespace
}  // namespace emulsion::nn
