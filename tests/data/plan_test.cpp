#include "data/plan.h"

#include <set>

#include "core/error.h"
#include "support/support.h"

namespace emulsion::data {
namespace {

// Samples of two shapes: `square` square ones, then `wide` wide ones.
Index make_index(int64_t square, int64_t wide, int64_t repeats = 1) {
  Index index;
  for (int64_t i = 0; i < square + wide; ++i) {
    Sample sample;
    sample.id = std::to_string(i);
    sample.captions = {""};
    sample.width = i < square ? 512 : 1024;
    sample.height = 512;
    sample.repeats = repeats;
    index.samples.push_back(sample);
  }
  return index;
}

std::map<int64_t, int64_t> uses(const BatchPlan& plan, int64_t begin, int64_t end) {
  std::map<int64_t, int64_t> counts;
  for (int64_t k = begin; k < end; ++k) {
    for (const Item& item : plan.batch(k)) ++counts[item.sample];
  }
  return counts;
}

TEST(BatchPlanTest, EverySampleComesExactlyRepeatsTimesPerEpoch) {
  const Index index = make_index(8, 4, 3);  // 24 and 12 draws: whole batches of 4
  const BatchPlan plan(index, DataConfig{}, 4, 7);
  ASSERT_EQ(plan.batches_per_epoch(), 9);
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    const auto counts = uses(plan, epoch * 9, epoch * 9 + 9);
    ASSERT_EQ(counts.size(), 12u);
    for (const auto& [sample, count] : counts) EXPECT_EQ(count, 3) << sample;
  }
}

TEST(BatchPlanTest, UnevenBucketsFavourNoSample) {
  const Index index = make_index(13, 1, 1);
  const BatchPlan plan(index, DataConfig{}, 4, 7);
  constexpr int64_t kEpochs = 40;
  const auto counts = uses(plan, 0, plan.batches_before(kEpochs));
  // At least once per epoch; at most what the last batch of each bucket adds, 3 draws.
  for (const auto& [sample, count] : counts) {
    EXPECT_GE(count, kEpochs);
    EXPECT_LE(count, kEpochs + (sample == 13 ? 3 : 1));
  }
  EXPECT_EQ(plan.batches_before(kEpochs), (13 * kEpochs + 3) / 4 + (kEpochs + 3) / 4);
}

TEST(BatchPlanTest, RoundsAreWholePermutations) {
  const Index index = make_index(10, 0);
  const BatchPlan plan(index, DataConfig{}, 4, 1);
  // The batches of an epoch are shuffled, so only rounds that end with an epoch can be told apart:
  // two epochs are 20 draws, five batches.
  for (const auto& [sample, count] : uses(plan, 0, 5)) EXPECT_EQ(count, 2) << sample;
  ASSERT_EQ(plan.batches_before(2), 5);
}

TEST(BatchPlanTest, BatchesAreFullAndOfOneSize) {
  const Index index = make_index(13, 5);
  const BatchPlan plan(index, DataConfig{}, 4, 3);
  std::set<int64_t> draws;
  for (int64_t k = 0; k < 50; ++k) {
    const auto items = plan.batch(k);
    ASSERT_EQ(items.size(), 4u);
    for (const Item& item : items) {
      EXPECT_EQ(plan.fit(item.sample).size, plan.fit(items[0].sample).size);
      draws.insert(item.draw);
    }
  }
  EXPECT_EQ(draws.size(), 200u) << "draws are unique";
}

TEST(BatchPlanTest, IsAPureFunctionOfSeedAndIndex) {
  const Index index = make_index(30, 10);
  const BatchPlan a(index, DataConfig{}, 4, 3), b(index, DataConfig{}, 4, 3),
      c(index, DataConfig{}, 4, 4);
  int64_t different = 0;
  for (int64_t k = 49; k >= 0; --k) {
    EXPECT_EQ(a.batch(k), b.batch(k));
    different += a.batch(k) != c.batch(k);
  }
  EXPECT_GT(different, 40);
  EXPECT_NE(a.batch(0), a.batch(10)) << "epochs differ";
}

TEST(BatchPlanTest, EpochsOfBatchesAndBack) {
  const Index index = make_index(13, 1);
  const BatchPlan plan(index, DataConfig{}, 4, 3);
  for (int64_t k = 0; k < 200; ++k) {
    const int64_t epoch = plan.epoch_of(k);
    EXPECT_LE(plan.batches_before(epoch), k);
    EXPECT_GT(plan.batches_before(epoch + 1), k);
  }
}

TEST(BatchPlanTest, FewerSamplesThanABatchStillFillIt) {
  const Index index = make_index(2, 0);
  const BatchPlan plan(index, DataConfig{}, 8, 3);
  EXPECT_EQ(uses(plan, 0, 1), (std::map<int64_t, int64_t>{{0, 4}, {1, 4}}));
}

TEST(BatchPlanTest, NoSamplesIsAnError) {
  EXPECT_THROW(BatchPlan(Index{}, DataConfig{}, 4, 0), Error);
}

}  // namespace
}  // namespace emulsion::data
