#include "core/device.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <thread>

#include "core/error.h"
#include "support/support.h"

namespace emulsion {
namespace {

TEST(DeviceTest, FindsTheProcessor) { EXPECT_TRUE(find_device("cpu").is_cpu()); }

TEST(DeviceTest, RefusesNamesThatAreNoDevice) {
  for (const char* name : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:99999"}) {
    const std::string message = test::error_message([&] { find_device(name); });
    EXPECT_NE(message.find(name), std::string::npos) << message;
    EXPECT_NE(message.find("\"cpu\""), std::string::npos) << message;
  }
}

TEST(DeviceTest, ACudaDeviceIsFoundOrTheErrorSaysWhatIsMissing) {
  try {
    EXPECT_TRUE(find_device("cuda").is_cuda());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_NE(std::string(error.what()).find("[device]"), std::string::npos) << error.what();
  }
}

TEST(DeviceTest, ThreadsAreAsWantedOrAtMostOnePerProcessor) {
  EXPECT_EQ(set_compute_threads(3), 3);
  EXPECT_EQ(at::get_num_threads(), 3);
  const int64_t chosen = set_compute_threads(0);
  EXPECT_GE(chosen, 1);
  EXPECT_LE(chosen, std::thread::hardware_concurrency());
  EXPECT_EQ(at::get_num_threads(), chosen);
}

TEST(DeviceTest, ThePeakFollowsWhatIsTouched) {
  const int64_t before = resident_memory_bytes();
  EXPECT_GT(before, 1 << 20);
  const std::vector<char> block(200 << 20, 1);
  EXPECT_GT(resident_memory_bytes(), before + (190 << 20));
  EXPECT_GE(peak_memory_bytes() + (1 << 20), resident_memory_bytes());
  EXPECT_EQ(block[100 << 20], 1);
}

TEST(DeviceTest, AvailableMemoryIsPositiveAndNoMoreThanTheMachineHas) {
  EXPECT_GT(available_memory_bytes(), 0);
  EXPECT_LT(available_memory_bytes(), int64_t{1} << 50);
}

TEST(DeviceTest, FastBfloat16GoesWithItsFeature) {
  const bool listed = cpu_features().find("BF16") != std::string::npos;
  EXPECT_EQ(has_fast_bfloat16(), listed) << cpu_features();
}

}  // namespace
}  // namespace emulsion
