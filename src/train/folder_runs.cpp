// The runs that a bare folder of pictures asks for.
#include <algorithm>
#include <filesystem>

#include "config/suggest.h"
#include "core/error.h"
#include "data/index.h"
#include "nn/attention_tiles.h"
#include "train/train.h"
#include "weights/catalogue.h"

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

/// How a method trains on a model of Stable Diffusion's size; small models learn at a higher rate.
struct MethodPlan {
  const char* name;
  const char* what;
  double lr, small_lr;
  int64_t looks;  // at every picture
  int64_t fewest_steps, most_steps;
};
constexpr MethodPlan kMethodPlans[] = {
    {"lora", "a LoRA: a small file, for styles and subjects", 1e-4, 2e-3, 100, 500, 3000},
    {"dreambooth", "a LoRA of one person, animal or thing, whose class is preserved", 1e-4, 2e-3, 100, 400, 1500},
    {"textual-inversion", "a new word: nothing of the model changes", 5e-3, 2e-2, 200, 1000, 3000},
    {"hypernetwork", "a hypernetwork, for programs that read them", 2e-5, 5e-4, 200, 2000, 6000},
    {"full", "the whole U-Net: a model of its own", 5e-6, 2e-4, 50, 1000, 20000},
};

constexpr int64_t kSmallSide = 128;  // of the pictures of a small model
constexpr int64_t kFewestSmallSteps = 200, kMostSmallSteps = 1000;

const MethodPlan& plan_named(const std::string& name) {
  for (const MethodPlan& plan : kMethodPlans) {
    if (name == plan.name) return plan;
  }
  throw Error(ErrorCode::config, fmt::format("--method {}: there is no such method{}; there are: {}", name,
                                             config::did_you_mean(name, base_methods()), fmt::join(base_methods(), ", ")));
}

MethodConfig method_of(const BaseRun& wanted, bool small) {
  if (wanted.method == "textual-inversion") return TextualInversionMethod{{.token = wanted.trigger, .vectors = 4}};
  if (wanted.method == "hypernetwork") {
    return HypernetworkMethod{{.activation = adapters::Activation::swish, .init = adapters::HypernetworkInit::kaiming_normal}};
  }
  if (wanted.method == "full") return DiffusionMethod{.train_text_encoder = false};
  LoraMethod lora;
  // Attention alone, enough for a large model, holds too little in a small one.
  if (small) lora.targets = {"unet.*attentions*", "unet.*resnets*"};
  return lora;
}

void check_words(const BaseRun& wanted) {
  EMULSION_CHECK(wanted.method != "textual-inversion" || !wanted.trigger.empty(), config,
                 "--method textual-inversion: expected the new word, got none; give --trigger WORD");
  EMULSION_CHECK(wanted.method != "dreambooth" || (!wanted.trigger.empty() && !wanted.class_prompt.empty()), config,
                 "--method dreambooth: expected a word for the subject and a name for its class; give --trigger \"sks dog\" "
                 "--class \"a photo of a dog\"");
  EMULSION_CHECK(wanted.method == "dreambooth" || wanted.class_prompt.empty(), config,
                 "--class is for --method dreambooth, which preserves the class; got --method {}", wanted.method);
}

bool computes_in_bfloat16() { return nn::tiles::available<c10::BFloat16>().size() > 1; }

/// Why the settings are what they are, a line each.
std::vector<std::string> reasons_of(const BaseRun& wanted, const MethodPlan& plan, const weights::ListedModel& base,
                                    const RunConfig& config, int64_t count) {
  const bool small = base.side <= kSmallSide, half = config.dtype == ComputeDtype::bfloat16;
  const char* const numbers = small ? "exact, and small models are fast enough"
                              : half ? "this processor has it, and it halves the memory"
                                     : "this processor has no bfloat16";
  std::vector<std::string> lines = {
      fmt::format("{} pictures found in {}; {}", count, wanted.pictures.string(), plan.what),
      fmt::format("{} pixels, those of {} ({}){}", base.side, base.name, base.family,
                  small ? "" : "; other proportions are kept, in buckets"),
      fmt::format("{} steps of {}: about {} looks at every picture, within {} to {} steps", config.steps, config.batch_size,
                  plan.looks, small ? kFewestSmallSteps : plan.fewest_steps, small ? kMostSmallSteps : plan.most_steps),
      fmt::format("learning rate {} falling to 0 by a cosine: {}", optim::learning_rate(config.optimizer),
                  small ? "a small model wants a higher one than a large one" : "what most people train this method at"),
      fmt::format("{}: {}", half ? "bfloat16" : "float32", numbers)};
  if (config.fused_backward_pass) {
    lines.push_back("the optimizer's averages in 8 bits, and gradients freed as they are used: half the memory");
  }
  if (!config.priors.empty()) {
    lines.push_back(fmt::format("{} pictures of \"{}\" are drawn first, so that the class stays what it is",
                                config.priors.front().count, wanted.class_prompt));
  }
  lines.push_back("every setting stands in runs/<name>/config.toml: copy it, change it, train it as a run file");
  return lines;
}

}  // namespace

std::vector<std::string> base_methods() {
  std::vector<std::string> names;
  for (const MethodPlan& plan : kMethodPlans) names.emplace_back(plan.name);
  return names;
}

RunConfig run_on_base(const BaseRun& wanted, std::vector<std::string>& reasons) {
  const MethodPlan& plan = plan_named(wanted.method);
  check_words(wanted);
  const weights::ListedModel base = weights::described(wanted.base);
  EMULSION_CHECK(base.side > 0, unsupported, "--base {}: expected a model with U-Net and autoencoder, got one without",
                 wanted.base);
  const bool small = base.side <= kSmallSide;
  RunConfig config;
  config.name = name_of(wanted.pictures) + "-" + plan.name;
  config.seed = 1;
  config.model.path = base.path.string();
  config.method = method_of(wanted, small);
  config.dtype = !small && computes_in_bfloat16() ? ComputeDtype::bfloat16 : ComputeDtype::float32;
  config.data.resolution = base.side;
  config.data.buckets = !small;
  data::SourceConfig source;
  source.path = wanted.pictures.string();
  source.trigger = wanted.trigger;
  config.data.sources = {source};
  if (wanted.method == "dreambooth") config.priors = {{.prompt = wanted.class_prompt, .count = small ? 16 : 100}};
  const auto count = static_cast<int64_t>(data::scan(config.data).samples.size());
  EMULSION_CHECK(count > 0, not_found, "[data] '{}': every picture was left out; `emulsion data check` says why",
                 wanted.pictures.string());
  config.batch_size = small ? 8 : (base.side > 768 ? 1 : 2);
  config.steps = small ? std::clamp(count * plan.looks / config.batch_size, kFewestSmallSteps, kMostSmallSteps)
                       : std::clamp(count * plan.looks / config.batch_size, plan.fewest_steps, plan.most_steps);
  const double lr = small ? plan.small_lr : plan.lr;
  if (std::holds_alternative<DiffusionMethod>(config.method) && !small) {
    config.optimizer = optim::AdamW8bitConfig{.lr = lr};
    config.fused_backward_pass = true;
    config.clip_by = optim::ClipBy::tensor_norm;
  } else {
    config.optimizer = optim::AdamWConfig{.lr = lr, .beta2 = small ? 0.99 : 0.999};
  }
  config.schedule.shape = optim::LrSchedule::cosine;
  config.schedule.warmup_steps = config.steps / 20;
  if (small) config.objective.timestep_sampling = diffusion::TimestepSampling::stratified;
  config.preview.every = std::max<int64_t>(1, config.steps / 4);
  config.preview.cfg = small ? 2.5 : 7;

  reasons = reasons_of(wanted, plan, base, config, count);
  return config;
}

std::vector<RunConfig> runs_for_folder(const std::filesystem::path& pictures, std::vector<std::string>& reasons) {
  RunConfig base = common(pictures);
  const data::Index index = data::scan(base.data);
  const int64_t count = static_cast<int64_t>(index.samples.size());
  EMULSION_CHECK(count > 0, not_found, "[data] '{}': every picture was left out; `emulsion data check` says why",
                 pictures.string());
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
                  "with a run file",
                  kSide),
      fmt::format("two runs: an autoencoder ({} steps on random crops), then a diffusion model on it ({} steps of {}: about {} "
                  "looks at every picture, at least {} steps)",
                  autoencoder.steps, diffusion.steps, kBatch, kEpochs, kFewestSteps),
      "captions come from metadata.jsonl, .txt files beside the pictures, or the file names; one in ten is dropped, so that "
      "guidance works",
      "every setting stands in runs/<name>/config.toml: copy it, change it, train it as a run file"};
  return {autoencoder, diffusion};
}

}  // namespace emulsion::train
