// The one loop: batches, loss, gradients, update; and everything periodic as hooks.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/lanes.h"
#include "core/progress.h"
#include "data/loader.h"
#include "nn/recompute.h"
#include "optim/adamw.h"
#include "optim/ema.h"
#include "train/config.h"
#include "train/method.h"
#include "train/run_folder.h"
#include "train/validation.h"

namespace emulsion::train {

struct StepStats {
  int64_t step = 0;  // optimizer steps done, this one included
  double loss = 0;
  double grad_norm = 0;  // before clipping
  double lr = 0;
  double seconds = 0;
  bool skipped = false;      // nothing has changed; loss, norm and rate are not known
};

/// The loss of `count` samples of a batch from `first`. Called from several threads at once.
using PartLoss = std::function<Loss(int64_t first, int64_t count)>;

/// The trained tensors with optimizer and moving average: what a checkpoint holds.
class Learner {
 public:
  Learner(const RunConfig& config, Method& method);

  /// What the next gradients are for: before the first backward() of a step. It counts `rate` times the learning rate.
  void begin(int64_t step, double rate = 1);

  /// The loss of a whole batch; `scale` times its gradients are added to those in the trained tensors. Small networks take
  /// the batch in as many parts as there are lanes (core/lanes.h), and the parts' gradients are added in order.
  /// With fused_backward_pass tensors are updated on the way, unless the loss is not finite: then nothing has changed.
  Loss backward(int64_t batch, double scale, const PartLoss& part);

  /// The optimizer step, on gradients that backward() left in the trained tensors; clears them.
  /// Throws: Error{numeric} naming the first tensor whose gradient is not finite; nothing has changed then (with
  /// fused_backward_pass: tensors whose gradients came before it).
  StepStats update();
  /// Instead of an update.
  void forget_gradients();

  NamedTensors state() const;
  void load_state(const NamedTensors& state);

  /// While it lives, the model computes with the moving average, if there is one.
  std::unique_ptr<optim::EmaSwap> averaged() const;
  /// Puts the float32 weights (or averages) into the model for good; before the result is saved.
  void settle();

  int64_t numel() const;
  /// The plan of gradient checkpointing; null if every block is kept.
  const nn::Recomputation* recomputation() const { return recomputation_.get(); }
  const std::vector<Trainable>& trainables() const { return trainables_; }
  const std::vector<optim::Param>& params() const { return optimizer_->params(); }

 private:
  /// Updates the parameters that have a gradient, and frees it. -> the norm of these gradients
  double use_gradients();
  /// A gradient out of the backward pass; used when there are enough for all threads.
  void take(size_t i, const Tensor& gradient);
  void plan_recomputation();

  const RunConfig& config_;
  int64_t step_ = 0;
  double lr_ = 0;
  double taken_squares_ = 0;  // of gradients that this step has used already
  size_t taken_bytes_ = 0;    // of gradients that wait for their use
  std::vector<Trainable> trainables_;
  std::unique_ptr<Lanes> lanes_;  // none: a batch is computed whole
  std::unique_ptr<nn::Recomputation> recomputation_;  // none: every block is kept
  bool planned_ = false;
  std::unique_ptr<optim::Ema> ema_;
  std::unique_ptr<optim::Optimizer> optimizer_;
};

class Trainer;

/// Something periodic: logging, previews, checkpoints.
class Hook {
 public:
  virtual ~Hook() = default;
  /// After every step.
  virtual void after_step(Trainer& trainer, const StepStats& stats) = 0;
};

class Trainer {
 public:
  Trainer(const RunConfig& config, Method& method, const data::BatchSource& source, RunFolder& folder,
          Reporter& reporter);

  /// Runs the steps that are left. Throws Error{cancelled} after saving when the user wishes to stop.
  void run();

  StepStats step();
  void save();
  void draw_preview();
  /// By the averages, if there are any. Throws Error{cancelled}.
  Validated validate();

  int64_t steps_done() const { return step_; }
  const RunConfig& config() const { return config_; }
  Learner& learner() { return learner_; }
  RunFolder& folder() { return folder_; }
  Reporter& reporter() { return reporter_; }

 private:
  Loss micro_batch(const data::Batch& batch, int64_t k);
  StepStats skipped(const Error& error);
  /// Hooks and batches, from step_ on.
  void begin();
  /// Weights, optimizer and step as the newest checkpoint has them, if there is one.
  bool load();
  void roll_back(const Error& error);

  const RunConfig& config_;
  Method& method_;
  const data::BatchSource& source_;
  RunFolder& folder_;
  Reporter& reporter_;
  Learner learner_;
  std::unique_ptr<Validation> validation_;  // none: nothing is held back
  int64_t step_ = 0;
  int64_t skipped_in_a_row_ = 0;
  double rate_ = 1;  // of the learning rate; each roll back halves it
  int64_t worst_step_ = -1, roll_backs_there_ = 0;  // the last step that was rolled back from, and how often
  std::unique_ptr<data::Loader> loader_;
  std::vector<std::unique_ptr<Hook>> hooks_;
};

/// The hooks of a run: metrics, previews, checkpoints.
std::vector<std::unique_ptr<Hook>> make_hooks(const RunFolder& folder, int64_t first_step);

/// The loss curve of metrics.jsonl as loss.svg.
void write_loss_curve(const RunFolder& folder);

}  // namespace emulsion::train
