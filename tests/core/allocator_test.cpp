#include "core/allocator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <thread>

#include "core/device.h"
#include "support/support.h"

#if !defined(__SANITIZE_ADDRESS__)
namespace emulsion {
namespace {

constexpr int64_t kMiB = 1 << 20;

Tensor bytes(int64_t count) { return at::empty({count}, at::kByte); }

class AllocatorTest : public ::testing::Test {
 protected:
  AllocatorTest() {
    install_caching_allocator();
    trim_allocator();
  }
};

TEST_F(AllocatorTest, ServesAFreedBlockAgainWithoutAskingTheSystem) {
  for (const int64_t size : {int64_t{1}, int64_t{700}, kMiB, 5 * kMiB + 3}) {
    const void* first = bytes(size).data_ptr();
    const int64_t calls = allocator_stats().system_calls;
    EXPECT_EQ(bytes(size).data_ptr(), first) << size;
    EXPECT_EQ(allocator_stats().system_calls, calls) << size;
  }
}

TEST_F(AllocatorTest, AlignsEveryBlockTo64BytesAndOverlapsNone) {
  std::vector<Tensor> tensors;
  for (int64_t size = 1; size < 40 * kMiB; size = size * 5 / 4 + 1) {
    tensors.push_back(bytes(size).fill_(static_cast<int64_t>(tensors.size())));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensors.back().data_ptr()) % 64, 0u) << size;
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_TRUE(tensors[i].eq(static_cast<int64_t>(i)).all().item<bool>()) << i;
  }
}

TEST_F(AllocatorTest, WastesAtMostAnEighthOfABlock) {
  for (int64_t size = 600; size < 40 * kMiB; size = size * 9 / 7 + 1) {
    const int64_t before = allocator_stats().in_use_bytes;
    const Tensor tensor = bytes(size);
    const int64_t taken = allocator_stats().in_use_bytes - before;
    EXPECT_GE(taken, size);
    EXPECT_LE(taken, size + size / 8 + 64) << size;
    trim_allocator();
  }
}

TEST_F(AllocatorTest, CountsWhatIsInUseAndWhatIsCached) {
  const AllocatorStats before = allocator_stats();
  Tensor tensor = bytes(4 * kMiB);
  EXPECT_EQ(allocator_stats().in_use_bytes - before.in_use_bytes, 4 * kMiB);
  EXPECT_EQ(allocator_stats().cached_bytes, before.cached_bytes);
  tensor = Tensor();
  EXPECT_EQ(allocator_stats().in_use_bytes, before.in_use_bytes);
  EXPECT_EQ(allocator_stats().cached_bytes - before.cached_bytes, 4 * kMiB);
}

TEST_F(AllocatorTest, TrimmingGivesMemoryBackToTheSystem) {
  bytes(256 * kMiB).fill_(1);
  const int64_t full = resident_memory_bytes();
  trim_allocator();
  EXPECT_EQ(allocator_stats().cached_bytes, 0);
  EXPECT_LT(resident_memory_bytes(), full - 200 * kMiB);
}

TEST_F(AllocatorTest, ManyDifferentSizesDoNotPileUp) {
  for (int64_t size = 16 * kMiB; size < 400 * kMiB; size += 8 * kMiB) bytes(size);
  // Largest in use at once: below 400 MiB; half as much again and 256 MiB may be kept.
  EXPECT_LE(allocator_stats().cached_bytes + allocator_stats().in_use_bytes, 900 * kMiB);
}

TEST_F(AllocatorTest, TakesBlocksBackFromOtherThreads) {
  std::vector<Tensor> tensors;
  for (int i = 0; i < 64; ++i) tensors.push_back(bytes(64 * 1024 + i).fill_(i));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&tensors, t] {
      for (int round = 0; round < 200; ++round) {
        for (int i = t; i < 64; i += 4) {
          ASSERT_EQ(tensors[i][17].item<int64_t>(), i);
          tensors[i] = bytes(64 * 1024 + (i * 31 + round) % 4096).fill_(i);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 64; ++i) EXPECT_TRUE(tensors[i].eq(i).all().item<bool>());
}

TEST_F(AllocatorTest, ARepeatedStepCausesNoPageFaults) {
  const auto step = [] {
    const Tensor x = at::ones({512, 2048});
    return (x.matmul(x.t()) + 1).relu().sum().item<float>();
  };
  for (int i = 0; i < 3; ++i) step();
  rusage before = {}, after = {};
  getrusage(RUSAGE_SELF, &before);
  for (int i = 0; i < 10; ++i) step();
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_minflt - before.ru_minflt, 500);  // without the cache: about 10 * 1500
}

TEST_F(AllocatorTest, ATensorLargerThanTheMachineIsRefusedWithAReadableMessage) {
  const std::string message = test::error_message([] { bytes(available_memory_bytes() * 3); });
  EXPECT_NE(message.find("smaller batch_size"), std::string::npos) << message;
  EXPECT_EQ(bytes(10).fill_(3).sum().item<int64_t>(), 30);  // and the process goes on
}

TEST_F(AllocatorTest, ATensorWithoutElementsIsFine) {
  const Tensor empty = at::empty({0, 3});
  EXPECT_EQ(empty.clone().numel(), 0);
}

TEST_F(AllocatorTest, AGrownTensorKeepsItsContent) {
  Tensor tensor = at::arange(10, at::kFloat);
  tensor.resize_({1000});
  EXPECT_EQ(tensor.slice(0, 0, 10).sum().item<float>(), 45.0f);
}

}  // namespace
}  // namespace emulsion
#endif
