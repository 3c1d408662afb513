#include "train/train.h"

#include <algorithm>
#include <cmath>

#include "core/allocator.h"
#include "core/device.h"
#include "core/error.h"
#include "core/stop.h"
#include "data/index.h"
#include "data/index_file.h"
#include "train/prior.h"
#include "train/rehearsal.h"
#include "train/trainer.h"

namespace emulsion::train {
namespace {

constexpr size_t kProblemsShown = 10;

void report_problems(const data::Index& index, Reporter& reporter) {
  for (size_t i = 0; i < std::min(index.problems.size(), kProblemsShown); ++i) {
    reporter.note("left out: " + to_string(index.problems[i]));
  }
  if (index.problems.size() > kProblemsShown) {
    reporter.note(fmt::format("... and {} more; `emulsion data check` lists all", index.problems.size() - kProblemsShown));
  }
}

void report_plan(const RunConfig& config, const data::Index& index, const data::BatchPlan& plan, const Method& method,
                 int64_t trained, Reporter& reporter) {
  const double epochs = static_cast<double>(config.steps * config.batch_size * config.accumulate) /
                        static_cast<double>(index.draws());
  const double weight = config.stochastic_rounding ? 2 : 4, gradient = config.fused_backward_pass ? 0 : 4;
  const double bytes_each = weight + gradient + optim::state_bytes(config.optimizer) + (config.ema.enabled ? 4 : 0);
  const double optimizer_bytes = static_cast<double>(trained) * bytes_each;
  reporter.note(fmt::format("{}: {}", config.name, method.describe()));
  reporter.note(fmt::format("{} pictures ({} draws an epoch) in {} size{}, {} steps of {} = {:.1f} epochs",
                            index.samples.size(), index.draws(), plan.buckets().size(),
                            plan.buckets().size() == 1 ? "" : "s", config.steps, config.batch_size * config.accumulate,
                            epochs));
  reporter.note(
      fmt::format("{} numbers train: {:.0f} MB with gradients and optimizer state, plus activations; {:.1f} GB free",
                  trained < 10'000 ? fmt::format("{}", trained) : fmt::format("{:.2f} M", static_cast<double>(trained) / 1e6),
                  optimizer_bytes / 1e6, static_cast<double>(available_memory_bytes()) / 1e9));
  EMULSION_CHECK(optimizer_bytes < static_cast<double>(available_memory_bytes()), out_of_memory,
                 "[train] weights, gradients and optimizer state need {:.1f} GB, {:.1f} GB are free; train an adapter "
                 "(method.type = \"lora\") or switch ema off",
                 optimizer_bytes / 1e9, static_cast<double>(available_memory_bytes()) / 1e9);
}

std::string as_hours(double seconds) {
  const auto minutes = static_cast<int64_t>(std::ceil(seconds / 60));
  return minutes < 60 ? fmt::format("{} min", minutes) : fmt::format("{} h {:02} min", minutes / 60, minutes % 60);
}

void report_needs(const RunConfig& config, const Rehearsal& tried, Reporter& reporter) {
  reporter.note(fmt::format("tried here: {:.3g} s a step, {} for {} steps{}; {:.2f} GB of memory at most", tried.seconds_per_step,
                            as_hours(static_cast<double>(config.steps) * tried.seconds_per_step), config.steps,
                            config.preview.every > 0 ? " and previews besides" : "", static_cast<double>(tried.peak_bytes) / 1e9));
}

/// The run's folder, after a word on what changed since the last start.
RunFolder opened_folder(const RunConfig& config, Reporter& reporter) {
  RunFolder folder(config);
  if (!folder.changed().empty()) reporter.note("changed since the last start (before -> now):\n" + folder.changed());
  return folder;
}

/// The pictures of config.priors.
class ClassPictures {
 public:
  explicit ClassPictures(const RunConfig& config) : config_(config) {
    const std::filesystem::path run = std::filesystem::path(config.output) / config.name;
    for (size_t i = 0; i < config.priors.size(); ++i) {
      const std::string& path = config.priors[i].path;
      folders_.push_back(path.empty() ? run / fmt::format("prior-{}", i + 1) : std::filesystem::path(path));
    }
  }

  int64_t missing() const {
    int64_t count = 0;
    for (size_t i = 0; i < folders_.size(); ++i) count += missing_class_pictures(config_.priors[i], folders_[i]);
    return count;
  }

  void draw(Method& method, Reporter& reporter) const {
    for (size_t i = 0; i < folders_.size(); ++i) method.draw_class_pictures(config_.priors[i], folders_[i], reporter);
  }

  /// All pictures; for a dry run without those that are not drawn yet.
  data::DataConfig sources(bool dry_run) const {
    if (folders_.empty() || (dry_run && missing() > 0)) return config_.data;
    return with_class_pictures(config_.data, config_.priors, folders_, data::scan(config_.data).draws());
  }

 private:
  const RunConfig& config_;
  std::vector<std::filesystem::path> folders_;
};

}  // namespace

RunResult run_training(const RunConfig& config, Reporter& reporter, const RunOptions& options) {
  validate(config);
  set_compute_threads(config.threads);
  EMULSION_CHECK(config.dtype == ComputeDtype::float32 || has_fast_bfloat16(), unsupported,
                 "[train] dtype = \"bfloat16\" would be many times slower than float32 on this processor, which lacks "
                 "AVX512-BF16 and AMX; use dtype = \"float32\"");
  const ClassPictures classes(config);
  std::unique_ptr<Method> method;  // made when first needed: a finished run loads no model
  if (!options.dry_run && classes.missing() > 0) {
    opened_folder(config, reporter);  // refuses the folder of another run before anything is drawn into it
    method = make_method(config);
    classes.draw(*method, reporter);
  }

  const data::DataConfig pictures = classes.sources(options.dry_run);
  const std::filesystem::path index_file = std::filesystem::path(config.output) / config.name / "cache" / "index";
  data::Index index = data::open_index(pictures, index_file, reporter);
  report_problems(index, reporter);
  EMULSION_CHECK(!index.samples.empty(), not_found, "[data] every picture was left out, see above");
  const data::BatchPlan plan(index, pictures, config.batch_size, static_cast<uint64_t>(config.seed));
  const data::BatchSource source(index, pictures, plan, static_cast<uint64_t>(config.seed));

  if (options.dry_run) {
    method = make_method(config);
    report_plan(config, index, plan, *method, Learner(config, *method).numel(), reporter);
    if (classes.missing() > 0) reporter.note(fmt::format("{} class pictures would be drawn first", classes.missing()));
    method.reset();
    report_needs(config, rehearse(config, pictures, index, plan), reporter);
    reporter.note("dry run: nothing was kept");
    return {std::filesystem::path(config.output) / config.name, {}, 0};
  }

  RunFolder folder = opened_folder(config, reporter);
  if (const auto result = folder.finished_result()) {
    reporter.note(fmt::format("{} is finished: {}", config.name, result->string()));
    return {folder.path(), *result, 0};
  }
  EMULSION_CHECK(!options.resume || folder.load_state(), not_found,
                 "[train] --resume: '{}' holds no checkpoint to go on from; leave --resume out to start", folder.path().string());

  data::save_index(index, pictures, index_file);
  if (!method) method = make_method(config);
  method->prepare(source, folder / "cache", reporter);
  trim_allocator();
  Trainer trainer(config, *method, source, folder, reporter);
  report_plan(config, index, plan, *method, trainer.learner().numel(), reporter);
  const int64_t first = trainer.steps_done();
  if (first > 0) reporter.note(fmt::format("going on after step {}", first));
  trainer.run();

  write_loss_curve(folder);
  if (config.preview.every > 0) trainer.draw_preview();
  trainer.learner().settle();
  method->finish(source, reporter);
  const auto result = method->save_result(folder.path());
  folder.mark_finished(result);
  reporter.note(fmt::format("{:.2f} GB of memory at most", static_cast<double>(peak_memory_bytes()) / 1e9));
  return {folder.path(), result, trainer.steps_done() - first};
}

}  // namespace emulsion::train
