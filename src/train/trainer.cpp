#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/stop.h"
#include "io/image.h"

namespace emulsion::train {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

constexpr int64_t kMostSkipped = 10, kMostRollBacks = 5;  // of one step
constexpr const char* kRate = "trainer/rate";

/// Throws when a loss is not finite, naming the picture.
void check_finite(const Loss& loss, double value, const data::Batch& batch, int64_t step) {
  if (std::isfinite(value)) return;
  const Tensor bad = loss.per_sample.isfinite().logical_not();
  const int64_t first = bad.any().item<bool>() ? bad.to(at::kInt).argmax().item<int64_t>() : 0;
  const bool output = loss.prediction.defined() && !loss.prediction.isfinite().all().item<bool>();
  throw Error(ErrorCode::numeric,
              fmt::format("[train] step {}: the loss is {} for picture '{}' ({}); the weights are those before the step. "
                          "Lower optimizer.lr, or look at the picture with `emulsion data check`",
                          step + 1, value, batch.ids.at(first),
                          output ? "the network's output is not finite" : "its target is not finite"));
}

}  // namespace

Trainer::Trainer(const RunConfig& config, Method& method, const data::BatchSource& source, RunFolder& folder,
                 Reporter& reporter)
    : config_(config), method_(method), source_(source), folder_(folder), reporter_(reporter), learner_(config, method) {
  load();
  if (config.validation.every > 0) validation_ = std::make_unique<Validation>(config, reporter);
  begin();
  if (config.not_finite == NotFinite::roll_back && step_ == 0) save();
}

void Trainer::begin() {
  hooks_.clear();  // they hold files open
  hooks_ = make_hooks(folder_, step_);
  loader_ = std::make_unique<data::Loader>(source_, step_ * config_.accumulate, static_cast<int>(config_.loader_threads),
                                           method_.needs_pixels());
}

bool Trainer::load() {
  const auto state = folder_.load_state();
  if (!state) return false;
  with_context("going on in " + folder_.path().string(), [&] { learner_.load_state(state->tensors); });
  step_ = state->step;
  for (const auto& [name, value] : state->tensors) {
    if (name == kRate) rate_ = value.item<double>();
  }
  return true;
}

Loss Trainer::micro_batch(const data::Batch& batch, int64_t k) {
  const int64_t size = static_cast<int64_t>(batch.draws.size());
  const Loss loss = learner_.backward(size, 1.0 / static_cast<double>(config_.accumulate), [&](int64_t first, int64_t count) {
    return method_.loss(data::part_of(batch, first, count), {step_, k, &batch, first});
  });
  check_finite(loss, loss.value.item<double>(), batch, step_);
  return loss;
}

StepStats Trainer::step() {
  const double begin = now();
  std::optional<StepStats> stats;
  int64_t k = 0;
  double loss = 0;
  try {
    learner_.begin(step_, rate_);
    for (; k < config_.accumulate; ++k)
      loss += micro_batch(loader_->next(), k).value.item<double>() / static_cast<double>(config_.accumulate);
    stats = learner_.update();
  } catch (const Error& error) {
    if (config_.not_finite == NotFinite::stop || error.code() != ErrorCode::numeric) throw;
    learner_.forget_gradients();
    if (config_.not_finite == NotFinite::roll_back) {
      roll_back(error);
      return step();
    }
    while (++k < config_.accumulate) loader_->next();  // the next step has its own batches
    stats = skipped(error);
  }
  if (!stats->skipped) {
    method_.after_update();
    skipped_in_a_row_ = 0;
  }
  stats->loss = loss;
  stats->seconds = now() - begin;
  ++step_;
  return *stats;
}

StepStats Trainer::skipped(const Error& error) {
  ++skipped_in_a_row_;
  EMULSION_CHECK(skipped_in_a_row_ < kMostSkipped, numeric, "{}; it is the {}th step in a row", error.what(), kMostSkipped);
  reporter_.note(fmt::format("{}: step left out", error.what()));
  return {.step = step_ + 1, .skipped = true};
}

void Trainer::roll_back(const Error& error) {
  roll_backs_there_ = step_ == worst_step_ ? roll_backs_there_ + 1 : 1;
  worst_step_ = step_;
  EMULSION_CHECK(roll_backs_there_ <= kMostRollBacks, numeric, "{}; going back and on more slowly did not help {} times",
                 error.what(), kMostRollBacks);
  const double halved = rate_ / 2;
  EMULSION_CHECK(load(), numeric, "{}; there is no checkpoint to go back to", error.what());
  rate_ = halved;
  method_.after_update();
  begin();
  reporter_.note(fmt::format("{}: back to step {}, on at {:g} of the learning rate", error.what(), step_, rate_));
}

void Trainer::run() {
  Progress progress(reporter_, "Training", config_.steps, "steps", step_);
  while (step_ < config_.steps) {
    if (stop_requested()) {
      save();
      throw Error(ErrorCode::cancelled,
                  fmt::format("stopped at step {} of {}; the state is saved: run the same command to go on", step_,
                              config_.steps));
    }
    const StepStats stats = step();
    progress.advance(step_, stats.skipped ? Figures() : Figures{{"loss", stats.loss}});
    for (const auto& hook : hooks_) hook->after_step(*this, stats);
    progress.resume();
  }
}

void Trainer::save() {
  NamedTensors state = learner_.state();
  if (rate_ != 1) state.emplace_back(kRate, at::scalar_tensor(rate_, at::kDouble));
  folder_.save_state({step_, state}, config_.checkpoint.keep);
}

Validated Trainer::validate() {
  const auto averaged = learner_.averaged();
  return validation_->judge(method_, reporter_);
}

void Trainer::draw_preview() {
  const auto averaged = learner_.averaged();
  try {
    io::write_png(folder_ / fmt::format("previews/step-{:08}.png", step_), method_.preview(source_, reporter_));
  } catch (const Error& error) {
    // A wish to stop ends the drawing; the loop then saves. Anything else is worth a word, not the run.
    if (error.code() != ErrorCode::cancelled) reporter_.note(std::string("no preview: ") + error.what());
  }
}

}  // namespace emulsion::train
