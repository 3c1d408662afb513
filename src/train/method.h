// A training method: which tensors train, how a batch becomes a loss, what a preview shows, what is saved at the end.
#pragma once

#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/progress.h"
#include "data/loader.h"
#include "train/config.h"
#include "train/objective.h"

namespace emulsion::train {

/// A tensor that trains: `*place` is a leaf of the graph, in the dtype that the network computes in (adapters: float32).
struct Trainable {
  std::string name;  // as in the model's or the adapter's file
  Tensor* place;       // where the model holds it; changed only by the trainer
  bool decays = true;  // a matrix or kernel, not a norm or bias: what weight decay is meant for
  double lr = 1;       // times the run's learning rate
  int64_t from = 0, until = 0;  // steps between which it trains; until 0: to the end

  bool trains_at(int64_t step) const { return step >= from && (until == 0 || step < until); }
};

/// Where in the run a batch stands: the address of its randomness.
struct StepAddress {
  int64_t step = 0;         // optimizer step, from 0
  int64_t micro_batch = 0;  // within the step
  /// The whole batch, where the method sees only the samples from `first` on: what a sample gets must not depend on how
  /// the batch is cut. Null: the method sees the whole.
  const data::Batch* whole = nullptr;
  int64_t first = 0;
};

/// Pictures that Method::prepare encodes at once, at most.
constexpr int64_t kCacheBatch = 16;

class Method {
 public:
  virtual ~Method() = default;

  /// One line for the user: what trains, on what.
  virtual std::string describe() const = 0;
  virtual std::vector<Trainable> trainables() = 0;

  /// Pictures for prior preservation that are not there yet, by the model as it is before training.
  /// Throws Error{unsupported} where nothing can be drawn.
  virtual void draw_class_pictures(const PriorConfig& prior, const std::filesystem::path& folder, Reporter& reporter);

  /// Work before the first step, such as encoding every picture once. Resumable; checks for a wish to stop.
  virtual void prepare(const data::BatchSource& source, const std::filesystem::path& cache, Reporter& reporter) {}
  /// Whether batches need pixels (after `prepare`).
  virtual bool needs_pixels() const { return true; }

  /// A mean over the batch's samples. May be called for several parts of a batch at once.
  virtual Loss loss(const data::Batch& batch, const StepAddress& address) = 0;
  /// After each update of what trains.
  virtual void after_update() {}
  /// All weights that a step reads, frozen ones too.
  virtual int64_t weight_count() const { return std::numeric_limits<int64_t>::max(); }

  /// The plain losses of a batch under each of several readings (captions for all its pictures), with nothing left to chance,
  /// averaged over `whens`, each of which says how far towards pure noise (0 to 1). [readings, B] float64. Called without
  /// gradients. Throws Error{unsupported} where a method has no such form.
  virtual Tensor validation_losses(const data::Batch& batch, const std::vector<std::vector<std::string>>& readings,
                                   const std::vector<double>& whens) const;
  /// Whether another caption gives another loss.
  virtual bool reads_captions() const { return true; }

  /// Recorded inputs instead of drawn ones; for comparing with other trainers.
  /// Throws Error{unsupported} where a method has no such form.
  virtual Loss replay(const DenoisingInputs& inputs, const Tensor& input_ids);

  /// Pictures that show how far it is: uint8 [H, W, 3].
  virtual Tensor preview(const data::BatchSource& source, Reporter& reporter) = 0;

  /// The last change before saving (folding the latents' spread into the weights, say).
  virtual void finish(const data::BatchSource& source, Reporter& reporter) {}
  /// Writes the result and returns its path. All trained tensors are float32 by then.
  virtual std::filesystem::path save_result(const std::filesystem::path& run_folder) = 0;
};

/// Builds the method of a run: loads or makes its model.
std::unique_ptr<Method> make_method(const RunConfig& config);

}  // namespace emulsion::train
