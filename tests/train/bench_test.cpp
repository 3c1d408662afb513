// The timing of a step: every model and method runs, and what is reported belongs to it.
#include "train/bench.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/support.h"

namespace emulsion::train {
namespace {

TEST(StepBenchTest, FamiliesStepWithBothMethods) {
  for (const char* model : {"sd1", "sdxl"}) {
    for (const char* method : {"diffusion", "lora"}) {
      Reporter silent;
      const BenchResult result = bench_step({.model = model, .method = method, .tiny = true, .batch = 2, .steps = 3}, silent);
      EXPECT_TRUE(std::isfinite(result.first_loss) && result.first_loss > 0) << model << " " << method;
      EXPECT_GT(result.seconds_per_step, 0) << model << " " << method;
      EXPECT_LE(result.fastest_step, result.seconds_per_step) << model << " " << method;
      EXPECT_GT(result.step_gflop, 0) << model << " " << method;
    }
  }
}

TEST(StepBenchTest, EveryKindOfAdapterSteps) {
  Reporter silent;
  for (const char* algo : {"loha", "lokr", "ia3", "oft", "glora", "full"}) {
    const BenchResult result =
        bench_step({.model = "sd1", .method = "lora", .tiny = true, .steps = 2, .settings = {{"method.algo", algo}}}, silent);
    EXPECT_TRUE(std::isfinite(result.first_loss) && result.first_loss > 0) << algo;
  }
  const auto refused = [&](const char* key, const char* value) {
    return test::error_message([&] {
      bench_step({.model = "sd1", .method = "lora", .tiny = true, .settings = {{"method.algo", "ia3"}, {key, value}}}, silent);
    });
  };
  test::expect_contains(refused("method.dora", "true"), {"dora"});
  test::expect_contains(refused("method.rang", "4"), {"rank"});
}

// Two products backward where all weights train, one where none does.
TEST(StepBenchTest, ALargerPictureIsMoreWorkAndLoraIsLess) {
  Reporter silent;
  const auto gflop = [&](const char* method, int64_t size) {
    return bench_step({.model = "sd1", .method = method, .tiny = true, .size = size, .steps = 2}, silent).step_gflop;
  };
  EXPECT_GT(gflop("lora", 128), 3 * gflop("lora", 64));
  EXPECT_GT(gflop("diffusion", 64), 1.4 * gflop("lora", 64));
}

TEST(StepBenchTest, UnknownNamesAreRefused) {
  Reporter silent;
  EXPECT_NE(test::error_message([&] { bench_step({.model = "sdxxl", .steps = 2}, silent); }).find("'sdxl'"), std::string::npos);
  EXPECT_NE(test::error_message([&] { bench_step({.method = "magic", .steps = 2}, silent); }).find("'magic'"), std::string::npos);
}

}  // namespace
}  // namespace emulsion::train
