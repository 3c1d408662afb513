#include "core/random.h"

#include <gtest/gtest.h>

#include <set>

namespace emulsion {
namespace {

TEST(RandomTest, TheSameAddressGivesTheSameNumbers) {
  const Rng rng(7);
  Stream a = rng.stream(Purpose::noise, 3, 4), b = rng.stream(Purpose::noise, 3, 4);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.next(), b.next());
}

TEST(RandomTest, EveryPartOfTheAddressMatters) {
  std::set<uint32_t> firsts;
  for (uint64_t seed : {1, 2}) {
    for (Purpose purpose : {Purpose::noise, Purpose::timestep}) {
      for (uint64_t step : {0, 1}) {
        for (uint64_t index : {0, 1}) firsts.insert(Rng(seed).stream(purpose, step, index).next());
      }
    }
  }
  EXPECT_EQ(firsts.size(), 16u);
}

TEST(RandomTest, NormalsDoNotDependOnTheNumberOfThreads) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Tensor one = Rng(5).normal({3, 4099}, Purpose::noise, 1);
  at::set_num_threads(2);
  const Tensor two = Rng(5).normal({3, 4099}, Purpose::noise, 1);
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one, two));
}

TEST(RandomTest, NormalsHaveTheMomentsOfTheStandardNormal) {
  const Tensor x = Rng(5).normal({1 << 20}, Purpose::noise).to(at::kDouble);
  EXPECT_NEAR(x.mean().item<double>(), 0, 0.004);  // four standard errors
  EXPECT_NEAR(x.var().item<double>(), 1, 0.006);
  EXPECT_NEAR(x.pow(4).mean().item<double>(), 3, 0.04);
}

TEST(RandomTest, PermutationHoldsEveryIndexOnce) {
  Stream stream = Rng(1).stream(Purpose::order);
  auto order = stream.permutation(1000);
  std::sort(order.begin(), order.end());
  for (int64_t i = 0; i < 1000; ++i) EXPECT_EQ(order[i], i);
}

TEST(RandomTest, BelowIsUniform) {
  Stream stream = Rng(9).stream(Purpose::order);
  std::vector<int> counts(7);
  for (int i = 0; i < 70000; ++i) ++counts[stream.below(7)];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 400);  // four standard deviations
}

}  // namespace
}  // namespace emulsion
