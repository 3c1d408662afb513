#include "data/plan.h"

#include "core/error.h"

namespace emulsion::data {
namespace {

// Addresses below Purpose::order: one for the batches of an epoch, one per round of a bucket.
constexpr uint64_t kEpochOrder = 0;
constexpr uint64_t kFirstBucket = 1;

}  // namespace

BatchPlan::BatchPlan(const Index& index, const DataConfig& config, int64_t batch_size,
                     uint64_t seed)
    : samples_(&index.samples), sizes_(config), batch_size_(batch_size), rng_(seed) {
  EMULSION_CHECK(!index.samples.empty(), not_found,
                 "[data] expected at least one usable picture, got none ({} left out)",
                 index.problems.size());
  EMULSION_CHECK(batch_size >= 1, config, "[data] expected a batch size of at least 1, got {}",
                 batch_size);
  std::map<Size, std::vector<int64_t>> by_size;
  for (size_t i = 0; i < index.samples.size(); ++i) {
    const SampleFacts sample = index.samples.facts(i);
    auto& members = by_size[sizes_.fit(sample.width, sample.height).size];
    members.insert(members.end(), static_cast<size_t>(sample.repeats), static_cast<int64_t>(i));
  }
  index.samples.release(0, index.samples.size());
  for (auto& [size, members] : by_size) buckets_.push_back({size, std::move(members)});
}

Fit BatchPlan::fit(int64_t sample) const {
  const SampleFacts facts = samples_->facts(static_cast<size_t>(sample));
  return sizes_.fit(facts.width, facts.height);
}

int64_t BatchPlan::bucket_batches(const Bucket& bucket, int64_t epochs) const {
  const auto draws = epochs * static_cast<int64_t>(bucket.samples.size());
  return (draws + batch_size_ - 1) / batch_size_;
}

int64_t BatchPlan::batches_before(int64_t epoch) const {
  int64_t count = 0;
  for (const auto& bucket : buckets_) count += bucket_batches(bucket, epoch);
  return count;
}

int64_t BatchPlan::epoch_of(int64_t global_index) const {
  // An epoch may be without a batch, when the batch is larger than the data.
  int64_t low = 0, high = 1;
  while (batches_before(high) <= global_index) high *= 2;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (batches_before(middle) <= global_index ? low : high) = middle;
  }
  return low;
}

std::vector<Item> BatchPlan::batch(int64_t global_index) const {
  const int64_t epoch = epoch_of(global_index), first = batches_before(epoch);
  const auto order = rng_.stream(Purpose::order, static_cast<uint64_t>(epoch), kEpochOrder)
                         .permutation(batches_before(epoch + 1) - first);
  int64_t place = order[static_cast<size_t>(global_index - first)];
  size_t b = 0;
  const auto in_epoch = [&](const Bucket& bucket) {
    return bucket_batches(bucket, epoch + 1) - bucket_batches(bucket, epoch);
  };
  for (; place >= in_epoch(buckets_[b]); ++b) place -= in_epoch(buckets_[b]);
  const auto& members = buckets_[b].samples;
  const auto count = static_cast<int64_t>(members.size());
  const int64_t begin = (bucket_batches(buckets_[b], epoch) + place) * batch_size_;

  std::vector<Item> items;
  std::vector<int64_t> round;
  for (int64_t i = 0; i < batch_size_; ++i) {
    const int64_t position = begin + i;
    if (round.empty() || position % count == 0) {
      round = rng_.stream(Purpose::order, static_cast<uint64_t>(position / count), kFirstBucket + b)
                  .permutation(count);
    }
    const int64_t member = round[static_cast<size_t>(position % count)];
    items.push_back({members[static_cast<size_t>(member)], global_index * batch_size_ + i});
  }
  return items;
}

}  // namespace emulsion::data
