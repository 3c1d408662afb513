// Batches of pictures and captions, prepared in the background.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "data/index.h"
#include "data/plan.h"

namespace emulsion::data {

struct Batch {
  int64_t index = 0;                  // in the plan
  Tensor pixels;                      // [B,3,H,W] float32 in [-1, 1], channels_last, CPU
  std::vector<std::string> captions;  // after choice, shuffling and dropout
  std::vector<int64_t> samples;       // in Index::samples
  std::vector<int64_t> draws;         // Item::draw
  std::vector<std::string> ids;
  std::vector<std::string> contents;  // hashes of the pictures' files
  std::vector<bool> flipped;
  std::vector<double> weights;  // of the losses; none: 1 each
  std::vector<bool> prior_prediction;  // whether the untouched model's prediction is the target; none: the pictures are
  /// [B,6] float32, what SDXL is told: original height and width, top and left of the crop in the resized (and flipped)
  /// picture, height and width of the crop.
  Tensor size_ids;
  Tensor masks;  // [B,1,H,W] float32, 0 to 1: what counts for the loss; undefined: everything
};

/// Samples `first` to `first + count`; the tensors are views.
Batch part_of(const Batch& batch, int64_t first, int64_t count);

/// What chance decided for one draw. A pure function of seed and draw.
struct Choices {
  bool flip = false;
  double crop_x = 0.5, crop_y = 0.5;  // where in the room that cutting leaves, 0 to 1
  bool random_background = false;
  std::array<uint8_t, 3> background = {255, 255, 255};
  bool unmasked = false;
};
Choices choose(const DataConfig& config, uint64_t seed, int64_t draw);

/// The caption of a draw: one of the alternatives, tags shuffled, or "" by dropout.
std::string choose_caption(const Sample& sample, const DataConfig& config, uint64_t seed,
                           int64_t draw);

/// Turns items of a plan into batches. Decoded, resized pictures stay in memory up to a budget.
/// `index` and `plan` must outlive it. Safe to use from several threads.
class BatchSource {
 public:
  BatchSource(const Index& index, const DataConfig& config, const BatchPlan& plan, uint64_t seed,
              int64_t memory_budget = int64_t{1} << 30);
  ~BatchSource();

  /// Throws: Error naming the picture.
  Batch load(int64_t batch_index) const;

  /// A batch without pixels, for training on cached latents.
  Batch load_without_pixels(int64_t batch_index) const;

  /// These samples, of one size, as training sees them without chance: cut at the centre on the configured background, not
  /// flipped, with their first captions. `draws` are the samples' numbers.
  Batch fixed(const std::vector<int64_t>& samples) const;

  /// One picture as training sees it without chance except `flip`: cut at the centre on the
  /// configured background. float32 [3,H,W] in [-1, 1].
  Tensor picture(int64_t sample, bool flip) const;

  const BatchPlan& plan() const { return plan_; }
  const Index& index() const { return index_; }

 private:
  class Cache;

  /// uint8 [h,w,3], or [h,w,4] premultiplied where a random background needs the alpha.
  Tensor resized(int64_t sample) const;
  Tensor decode(int64_t sample) const;
  /// uint8 [h,w], of the resized picture's size.
  Tensor resized_mask(int64_t sample) const;
  Tensor masks(const Batch& batch) const;

  const Index& index_;
  DataConfig config_;
  const BatchPlan& plan_;
  uint64_t seed_;
  std::unique_ptr<Cache> cache_;
  std::unique_ptr<Cache> masks_;
};

/// Hands out the batches from `first` on, in order, prepared by `threads` background threads of low
/// priority (0: by the caller). What it returns does not depend on the number of threads.
class Loader {
 public:
  /// `pixels` = false: batches without pixels. `source` must outlive the loader.
  Loader(const BatchSource& source, int64_t first, int threads, bool pixels = true);
  /// Stops the threads; waits for the batches in preparation.
  ~Loader();

  /// Throws what loading the batch threw; the loader stays usable and goes on with the next batch.
  Batch next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace emulsion::data
