// What happens every so many steps: metrics, previews, checkpoints.
#include <nlohmann/json.hpp>
#include <fstream>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/jsonl.h"
#include "io/svg.h"
#include "io/tensorboard.h"
#include "train/trainer.h"

namespace emulsion::train {
namespace {

bool due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

/// metrics.jsonl holds only what is the same whenever the run is repeated; times go to TensorBoard.
class Metrics : public Hook {
 public:
  Metrics(const RunFolder& folder, int64_t first_step)
      : lines_((io::truncate_jsonl_after(folder / "metrics.jsonl", first_step), folder / "metrics.jsonl")),
        events_(folder / "tensorboard", first_step + 1) {}

  void after_step(Trainer& trainer, const StepStats& stats) override {
    io::JsonFields line = {{"step", stats.step}};
    if (stats.skipped) {
      line.emplace_back("skipped", true);
    } else {
      line.insert(line.end(), {{"loss", stats.loss}, {"grad_norm", stats.grad_norm}, {"lr", stats.lr}});
    }
    const RunConfig& config = trainer.config();
    if (due(stats.step, config.validation.every) || (config.validation.every > 0 && stats.step == config.steps)) {
      validate(trainer, stats.step, line);
    }
    lines_.write(line);
    if (!stats.skipped) {
      events_.scalar("train/loss", stats.step, stats.loss);
      events_.scalar("train/grad_norm", stats.step, stats.grad_norm);
      events_.scalar("train/lr", stats.step, stats.lr);
    }
    events_.scalar("time/seconds_per_step", stats.step, stats.seconds);
    if (due(stats.step, 50) || stats.step == trainer.config().steps) events_.flush();
  }

 private:
  void validate(Trainer& trainer, int64_t step, io::JsonFields& line) {
    Validated validated;
    try {
      validated = trainer.validate();
    } catch (const Error& error) {
      // A wish to stop ends the judging; the loop then saves, and this step's line stays without figures.
      if (error.code() == ErrorCode::cancelled) return;
      throw;
    }
    line.emplace_back("validation_loss", validated.loss);
    events_.scalar("validation/loss", step, validated.loss);
    std::string agreement;
    if (validated.agreement) {
      line.emplace_back("agreement", *validated.agreement);
      events_.scalar("validation/agreement", step, *validated.agreement);
      agreement = fmt::format(", {:.1f} % of the captions told from another's", 100 * *validated.agreement);
    }
    trainer.reporter().note(fmt::format("step {}: validation loss {:.5f}{}", step, validated.loss, agreement));
  }

  io::JsonlWriter lines_;
  io::EventWriter events_;
};

class Previews : public Hook {
  void after_step(Trainer& trainer, const StepStats& stats) override {
    const auto& config = trainer.config();
    if (!due(stats.step, config.preview.every)) return;
    trainer.draw_preview();
    write_loss_curve(trainer.folder());
  }
};

class Checkpoints : public Hook {
  void after_step(Trainer& trainer, const StepStats& stats) override {
    const auto& config = trainer.config();
    if (due(stats.step, config.checkpoint.every) || stats.step == config.steps) trainer.save();
  }
};

}  // namespace

std::vector<std::unique_ptr<Hook>> make_hooks(const RunFolder& folder, int64_t first_step) {
  std::vector<std::unique_ptr<Hook>> hooks;
  hooks.push_back(std::make_unique<Metrics>(folder, first_step));
  hooks.push_back(std::make_unique<Checkpoints>());
  hooks.push_back(std::make_unique<Previews>());
  return hooks;
}

void write_loss_curve(const RunFolder& folder) {
  std::ifstream in(folder / "metrics.jsonl");
  std::vector<double> steps, losses, smoothed;
  std::string line;
  while (std::getline(in, line)) {
    const auto entry = nlohmann::json::parse(line, nullptr, false);
    if (entry.is_discarded() || !entry.contains("loss") || !entry["loss"].is_number()) continue;
    steps.push_back(entry["step"].get<double>());
    losses.push_back(entry["loss"].get<double>());
    const double weight = std::max(0.02, 1.0 / static_cast<double>(losses.size()));
    smoothed.push_back(smoothed.empty() ? losses.back() : smoothed.back() + weight * (losses.back() - smoothed.back()));
  }
  if (!steps.empty()) io::write_file_atomic(folder / "loss.svg", io::loss_curve_svg("Training loss", steps, losses, smoothed));
}

}  // namespace emulsion::train
