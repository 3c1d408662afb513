// Which samples make up each batch: a pure function of index, config, batch size and seed.
#pragma once

#include <cstdint>
#include <vector>

#include "core/random.h"
#include "data/buckets.h"
#include "data/index.h"

namespace emulsion::data {

/// One use of a sample.
struct Item {
  int64_t sample = 0;  // in Index::samples
  int64_t draw = 0;    // unique in the run: the address of this use's randomness
  bool operator==(const Item&) const = default;
};

/// The endless sequence of batches. All batches are full and of one size of picture.
///
/// Each bucket holds its samples, each `repeats` times, and is drawn in rounds: a round is a random
/// order of all of them, and rounds follow each other without a gap, so a batch may begin in one
/// and end in the next. After e epochs a bucket of n has given ceil(e n / batch size) batches: no
/// sample is dropped and none is favoured, whatever the size of its bucket. Where n is a multiple
/// of the batch size, an epoch is exactly one round. The batches of an epoch come in random order.
/// Immutable; safe to use from several threads. The index must outlive it.
class BatchPlan {
 public:
  /// Throws: Error{not_found} if there are no samples.
  BatchPlan(const Index& index, const DataConfig& config, int64_t batch_size, uint64_t seed);

  std::vector<Item> batch(int64_t global_index) const;

  int64_t batch_size() const { return batch_size_; }
  /// Batches of the first epoch; later ones differ by at most one per bucket.
  int64_t batches_per_epoch() const { return batches_before(1); }
  /// Batches of all epochs before `epoch`.
  int64_t batches_before(int64_t epoch) const;
  /// The epoch that a batch belongs to.
  int64_t epoch_of(int64_t global_index) const;

  struct Bucket {
    Size size;
    std::vector<int64_t> samples;  // with repeats
  };
  const std::vector<Bucket>& buckets() const { return buckets_; }

  /// How sample `sample` is resized and cut.
  Fit fit(int64_t sample) const;

 private:
  int64_t bucket_batches(const Bucket& bucket, int64_t epochs) const;

  const SampleList* samples_;
  Buckets sizes_;
  std::vector<Bucket> buckets_;  // sorted by size
  int64_t batch_size_;
  Rng rng_;
};

}  // namespace emulsion::data
