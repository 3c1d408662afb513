// The runs that a bare folder of pictures asks for.
#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "data/index.h"
#include "train/train.h"

namespace emulsion::train {
namespace {

constexpr int64_t kSide = 64;            // what trains in minutes on a CPU
constexpr int64_t kEpochs = 300;         // how often a small model has to see a picture before it draws it
constexpr int64_t kBatch = 16;
constexpr int64_t kFewestSteps = 1000, kMostSteps = 20000;

std::string name_of(const std::filesystem::path& folder) {
  std::string name = std::filesystem::weakly_canonical(folder).filename().string();
  return name.empty() || name[0] == '.' ? "pictures" : name;
}

RunConfig common(const std::filesystem::path& pictures) {
  RunConfig config;
  config.seed = 1;
  config.data.resolution = kSide;
  config.data.buckets = false;
  data::SourceConfig source;
  source.path = pictures.string();
  config.data.sources = {source};
  config.optimizer = optim::AdamWConfig{.beta2 = 0.99};
  config.schedule.shape = optim::LrSchedule::cosine;
  config.ema.enabled = true;
  return config;
}

}  // namespace

std::vector<RunConfig> runs_for_folder(const std::filesystem::path& pictures, std::vector<std::string>& reasons) {
  RunConfig base = common(pictures);
  const data::Index index = data::scan(base.data);
  const int64_t count = static_cast<int64_t>(index.samples.size());
  EMULSION_CHECK(count > 0, not_found, "[data] '{}': every picture was left out; `emulsion data check` says why", pictures.string());
  const std::string name = name_of(pictures);

  RunConfig autoencoder = base;
  autoencoder.name = name + "-autoencoder";
  autoencoder.method = AutoencoderMethod{};
  autoencoder.steps = 1500;
  autoencoder.batch_size = 8;
  autoencoder.data.crop = data::Crop::random;
  autoencoder.data.crop_size = kSide / 2;
  autoencoder.data.flip = 0.5;
  std::get<optim::AdamWConfig>(autoencoder.optimizer).lr = 3e-3;
  autoencoder.schedule.warmup_steps = 30;
  autoencoder.ema.decay = 0.99;

  RunConfig diffusion = base;
  diffusion.name = name + "-model";
  diffusion.method = DiffusionMethod{};
  diffusion.model.vae = (std::filesystem::path(autoencoder.output) / autoencoder.name / "model").string();
  diffusion.batch_size = kBatch;
  diffusion.steps = std::clamp(count * kEpochs / kBatch, kFewestSteps, kMostSteps);
  diffusion.prediction = diffusion::Prediction::v_prediction;
  diffusion.objective.timestep_sampling = diffusion::TimestepSampling::stratified;
  diffusion.data.caption_dropout = 0.1;
  std::get<optim::AdamWConfig>(diffusion.optimizer).lr = 2e-3;
  diffusion.schedule.warmup_steps = 50;
  diffusion.ema.decay = 0.995;
  diffusion.preview.cfg = 2.5;

  reasons = {
      fmt::format("{} pictures found in {}", count, pictures.string()),
      fmt::format("resolution {0}x{0}: what trains from nothing in minutes on a CPU; for larger pictures fine-tune a model "
                  "with a run file", kSide),
      fmt::format("two runs: an autoencoder ({} steps on random crops), then a diffusion model on it ({} steps of {}: about {} "
                  "looks at every picture, at least {} steps)", autoencoder.steps, diffusion.steps, kBatch, kEpochs, kFewestSteps),
      "captions come from metadata.jsonl, .txt files beside the pictures, or the file names; one in ten is dropped, so that guidance works",
      "every setting stands in runs/<name>/config.toml: copy it, change it, train it as a run file"};
  return {autoencoder, diffusion};
}

}  // namespace emulsion::train
