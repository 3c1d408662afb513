#include "core/lanes.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

#include "core/tensor.h"

namespace emulsion {
namespace {

TEST(LanesTest, EveryLaneRunsOnceInAThreadThatComputesAlone) {
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  {
    Lanes lanes(3);
    for (int round = 0; round < 20; ++round) {
      std::vector<int> threads(3, 0), runs(3, 0);
      lanes.run([&](int64_t lane) {
        ++runs[lane];
        at::parallel_for(0, 1 << 20, 1, [](int64_t, int64_t) {});
        threads[lane] = at::get_num_threads();
      });
      EXPECT_EQ(runs, std::vector<int>({1, 1, 1}));
      EXPECT_EQ(threads, std::vector<int>({1, 1, 1}));
    }
    EXPECT_EQ(at::get_num_threads(), 2);
  }
  EXPECT_EQ(at::get_num_threads(), 2);
  at::set_num_threads(before);
}

TEST(LanesTest, AnExceptionComesBackAfterAllHaveEndedAndTheNextRunWorks) {
  Lanes lanes(2);
  std::atomic<int> ended = 0;
  EXPECT_THROW(lanes.run([&](int64_t lane) {
    if (lane == 0) throw std::runtime_error("lane 0");
    ++ended;
  }),
               std::runtime_error);
  EXPECT_EQ(ended, 1);
  lanes.run([&](int64_t) { ++ended; });
  EXPECT_EQ(ended, 3);
}

TEST(LanesTest, GradientsCanBeTakenInLanes) {
  const Tensor w = at::full({4}, 2.0f).requires_grad_(true);
  std::vector<Tensor> losses(2);
  Lanes lanes(2);
  lanes.run([&](int64_t lane) { losses[lane] = (w * static_cast<double>(lane + 1)).square().sum(); });
  EXPECT_EQ(losses[0].item<float>(), 16);
  EXPECT_EQ(losses[1].item<float>(), 64);
  EXPECT_TRUE(losses[0].requires_grad());
}

}  // namespace
}  // namespace emulsion
