// The run file: everything that defines a training run, one struct per concept.
//
// Defaults live here only. Rules across fields are in `validate`.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "adapters/config.h"
#include "adapters/hypernetwork.h"
#include "data/config.h"
#include "diffusion/noise_schedule.h"
#include "diffusion/objective_options.h"
#include "diffusion/prediction.h"
#include "models/architecture.h"
#include "optim/clip.h"
#include "optim/config.h"
#include "optim/ema.h"
#include "optim/schedule.h"

namespace emulsion::train {

enum class ComputeDtype { float32, bfloat16 };
constexpr auto enum_names(ComputeDtype) {
  return std::to_array<std::pair<ComputeDtype, const char*>>(
      {{ComputeDtype::float32, "float32"}, {ComputeDtype::bfloat16, "bfloat16"}});
}

/// Trains the autoencoder alone: pictures in, latents between, the same pictures out.
struct AutoencoderMethod {
  static constexpr const char* kType = "autoencoder";
  static constexpr const char* kDoc = "Trains an autoencoder from random weights or further.";
  double l1 = 1;
  double l2 = 0.5;
  double gradient = 0.5;
  double kl = 1e-6;
  bool normalise_latents = true;
  template <class V>
  void fields(V& v) {
    v("l1", l1, "Weight of the mean absolute error of the picture.").min(0);
    v("l2", l2, "Weight of the mean squared error of the picture.").min(0);
    v("gradient", gradient,
      "Weight of the mean absolute error of the picture's horizontal and vertical differences, at full and half size: sharp edges.")
        .min(0);
    v("kl", kl, "Weight of the divergence of the latents from the standard normal distribution.").min(0);
    v("normalise_latents", normalise_latents,
      "At the end, give every latent channel mean 0 and spread 1 by folding both into the layers next to it.");
  }
};

/// Another learning rate for some weights.
struct WeightRule {
  std::string pattern = {};
  double lr = 0;
  int64_t from = 0;
  int64_t until = 0;
  template <class V>
  void fields(V& v) {
    v("pattern", pattern, "Which: a glob pattern like unet.down_blocks.* or *.attn2.*.").required();
    v("lr", lr, "Times the learning rate; 0: they stay as they are, bit for bit.").min(0);
    v("from", from, "They train from this step on.").min(0).unit("steps");
    v("until", until, "And stop at this one; 0: at the end.").min(0).unit("steps");
  }
};

/// Trains the denoiser of a latent diffusion model with text conditioning, the text encoder with it.
struct DiffusionMethod {
  static constexpr const char* kType = "diffusion";
  static constexpr const char* kDoc = "Trains U-Net and text encoder whole, from random weights or further.";
  bool train_text_encoder = true;
  std::vector<WeightRule> layers = {};
  template <class V>
  void fields(V& v) {
    v("train_text_encoder", train_text_encoder, "Train the text encoder along; off: only the U-Net.");
    v("layers", layers, "Other learning rates for some weights, or none; of several rules that fit the last counts.");
  }
};

/// A word that is taught to the text encoders.
struct WordConfig {
  std::string token;
  int64_t vectors = 1;
  std::string init = {};
  double lr = 1;
  template <class V>
  void fields(V& v) {
    v("token", token, "The new word, as captions write it. Put it there with data.sources.trigger, or in the captions.").required();
    v("vectors", vectors, "Vectors that stand for it: more hold more, and take more of a prompt's 75 tokens.").min(1).max(75);
    v("init", init,
      "Words whose vectors it begins with, repeated or cut to the number of vectors: \"dog\". Empty: random ones of the table's "
      "spread.");
    v("lr", lr, "Times the learning rate. Beside an adapter a word wants ten times its rate and more.").above(0);
  }
};

/// Trains adapters on top of a frozen model.
struct LoraMethod : adapters::AdapterConfig {
  static constexpr const char* kType = "lora";
  static constexpr const char* kDoc = "Trains LoRA or one of its relatives on a frozen model.";
  std::string start = {};
  std::vector<WordConfig> words = {};
  bool bundle_words = true;
  template <class V>
  void fields(V& v) {
    adapters::AdapterConfig::fields(v);
    v("words", words, "Words that are learnt along with the adapter (pivotal tuning). Each has a file of its own, too.");
    v("bundle_words", bundle_words,
      "The adapter's file holds the words as well, as AUTOMATIC1111 and OneTrainer read it; diffusers reads no such files.");
    v("start", start, "Adapter file to go on from. Its kind, layers, ranks and alphas stand for algo, targets, rank and alpha.");
  }
};

/// Learns vectors for a word of its own (Gal et al. 2022, arXiv:2208.01618); nothing of the model changes.
struct TextualInversionMethod : WordConfig {
  static constexpr const char* kType = "textual_inversion";
  static constexpr const char* kDoc = "Teaches a frozen model a new word for what the pictures show.";
};

/// Trains networks before the attention's keys and values of a frozen model.
struct HypernetworkMethod : adapters::HypernetworkConfig {
  static constexpr const char* kType = "hypernetwork";
  static constexpr const char* kDoc = "Trains a hypernetwork, as AUTOMATIC1111 has them, on a frozen model.";
};

using MethodConfig = std::variant<DiffusionMethod, LoraMethod, TextualInversionMethod, HypernetworkMethod, AutoencoderMethod>;

/// An adapter that becomes part of the model before training.
struct MergeConfig {
  std::string path;
  double strength = 1;
  template <class V>
  void fields(V& v) {
    v("path", path, "Adapter file.").required();
    v("strength", strength, "How much of it.");
  }
};

struct ModelConfig {
  std::string path;
  std::string vae;
  std::vector<MergeConfig> merge;
  models::ArchitectureConfig architecture;
  template <class V>
  void fields(V& v) {
    v("path", path, "Model folder to start from (diffusers layout). Empty: random weights of [model.architecture].");
    v("vae", vae, "Model folder whose autoencoder to use instead; with an empty path, the one to build on.");
    v("merge", merge, "Adapters that are merged into the model before it trains.");
    v("architecture", architecture, "Sizes of a new model; ignored when `path` is given.");
  }
};

struct PreviewConfig {
  int64_t every = 250;
  std::vector<std::string> prompts;
  int64_t count = 8;
  int64_t steps = 20;
  double cfg = 3;
  int64_t seed = 1;
  template <class V>
  void fields(V& v) {
    v("every", every, "Draw previews every so many steps and at the end; 0: never.").min(0).unit("steps");
    v("prompts", prompts, "What to draw; empty: captions of the training pictures.");
    v("count", count, "How many captions to draw when `prompts` is empty.").min(1).max(64);
    v("steps", steps, "Sampling steps of a preview.").min(1).max(1000);
    v("cfg", cfg, "Guidance scale of a preview.").min(0);
    v("seed", seed, "Seed of the first preview picture; the next ones count up.").min(0);
  }
};

/// See train/validation.h.
struct ValidationConfig {
  int64_t every = 0;
  int64_t count = 64;
  int64_t timesteps = 4;
  std::vector<data::SourceConfig> sources;
  template <class V>
  void fields(V& v) {
    v("every", every, "Judge held-back pictures every so many steps and at the end; 0: never.").min(0).unit("steps");
    v("count", count, "How many of them at most, spread evenly over all.").min(1).max(100000);
    v("timesteps", timesteps, "At how many timesteps, spread evenly and the same each time, the loss of each is taken.")
        .min(1)
        .max(1000);
    v("sources", sources, "Where they are. What trains must not lie there.");
  }
};

struct CheckpointConfig {
  int64_t every = 500;
  int64_t keep = 2;
  template <class V>
  void fields(V& v) {
    v("every", every, "Save the whole state every so many steps; 0: only when stopping.").min(0).unit("steps");
    v("keep", keep, "How many states to keep; older ones are removed.").min(1);
  }
};

struct EmaOptions : optim::EmaConfig {
  bool enabled = false;
  template <class V>
  void fields(V& v) {
    v("enabled", enabled, "Keep a moving average of the weights; previews and the result use it.");
    optim::EmaConfig::fields(v);
  }
};

/// A class whose look is preserved, see train/prior.h.
struct PriorConfig {
  std::string prompt;
  std::string path = {};
  int64_t count = 100;
  double weight = 1;
  std::string negative = {};
  int64_t steps = 25;
  double cfg = 7;
  int64_t seed = 0;
  template <class V>
  void fields(V& v) {
    v("prompt", prompt, "What the class is called: \"a photo of a dog\". Caption of its pictures.").required();
    v("path", path, "Folder of class pictures; missing ones are drawn into it. Empty: prior-N in the run's folder.");
    v("count", count, "How many class pictures there shall be.").min(1).max(100000);
    v("weight", weight, "What their loss counts; the others' counts 1.").min(0);
    v("negative", negative, "Negative prompt for drawing them.");
    v("steps", steps, "Sampling steps for drawing them.").min(1).max(1000);
    v("cfg", cfg, "Guidance scale for drawing them.").min(0);
    v("seed", seed, "Seed of the first one; the next ones count up.").min(0);
  }
};

/// How captions are read. The same must be said when drawing.
struct TextConfig {
  bool weighted = false;
  int64_t clip_skip = 0;
  template <class V>
  void fields(V& v) {
    v("weighted", weighted, "(word:1.3) and [word] weigh, as in prompts; off: brackets are letters.");
    v("clip_skip", clip_skip,
      "The text encoder's state so many layers from the end, as A1111 and kohya count: 2 is the last but one. 0: the model's own.")
        .min(0)
        .max(24);
  }
};

enum class GradientCheckpointing { automatic, never, always };
constexpr auto enum_names(GradientCheckpointing) {
  return std::to_array<std::pair<GradientCheckpointing, const char*>>(
      {{GradientCheckpointing::automatic, "auto"},
       {GradientCheckpointing::never, "never"},
       {GradientCheckpointing::always, "always"}});
}

/// What becomes of a step whose loss or gradient is not finite.
enum class NotFinite { stop, skip, roll_back };
constexpr auto enum_names(NotFinite) {
  return std::to_array<std::pair<NotFinite, const char*>>(
      {{NotFinite::stop, "stop"}, {NotFinite::skip, "skip"}, {NotFinite::roll_back, "roll_back"}});
}

struct RunConfig {
  std::string name = "run";
  std::string output = "runs";
  int64_t seed = 0;
  int64_t steps = 1000;
  int64_t batch_size = 4;
  int64_t accumulate = 1;
  double clip = 1;
  optim::ClipBy clip_by = optim::ClipBy::norm;
  NotFinite not_finite = NotFinite::stop;
  ComputeDtype dtype = ComputeDtype::float32;
  bool stochastic_rounding = false;
  bool fused_backward_pass = false;
  int64_t threads = 0;
  int64_t lanes = 0;
  int64_t loader_threads = 1;
  GradientCheckpointing gradient_checkpointing = GradientCheckpointing::automatic;
  double memory_limit = 0;
  MethodConfig method;
  ModelConfig model;
  data::DataConfig data;
  TextConfig text;
  std::vector<PriorConfig> priors;
  diffusion::NoiseScheduleConfig noise;
  diffusion::Prediction prediction = diffusion::Prediction::epsilon;
  diffusion::ObjectiveConfig objective;
  optim::OptimizerConfig optimizer;
  optim::LrScheduleConfig schedule;
  EmaOptions ema;
  PreviewConfig preview;
  ValidationConfig validation;
  CheckpointConfig checkpoint;

  template <class V>
  void fields(V& v) {
    v("name", name, "Name of the run: its folder and its result file.");
    v("output", output, "Folder that holds the run folders.");
    v("seed", seed, "Every random number of the run follows from it.").min(0);
    v("steps", steps, "Optimizer steps in all.").min(1).unit("steps");
    v("batch_size", batch_size, "Pictures per forward and backward pass.").min(1);
    v("accumulate", accumulate, "Passes whose gradients are averaged into one optimizer step.").min(1);
    v("clip", clip, "Largest norm of all gradients together (or what clip_by says); 0: no clipping.").min(0);
    v("clip_by", clip_by, "What clip limits: the norm of all gradients, that of each tensor, or each number.");
    v("not_finite", not_finite,
      "A step whose loss or gradient is NaN or infinite changes nothing. stop: the run ends and says where; skip: it goes on with "
      "the next step, and ends after ten in a row; roll_back: it goes back to the last checkpoint and on from there at half the "
      "learning rate, and ends where five times do not help.");
    v("dtype", dtype, "Numbers that the network computes in; trained weights are float32 all the same.");
    v("stochastic_rounding", stochastic_rounding,
      "With dtype = \"bfloat16\": the network's own trained weights are bfloat16 too, rounded up or down at random after each step "
      "(Gupta et al. 2015, arXiv:1502.02551; Zamirai et al. 2020, arXiv:2010.06192): 2 bytes a weight less, and a little noise. "
      "Adapters stay float32.");
    v("fused_backward_pass", fused_backward_pass,
      "Each tensor is updated during the backward pass, as soon as its gradient is complete, which is then freed: for whole "
      "networks, whose gradients take as much memory as the weights. Needs clip_by = \"tensor_norm\" or \"value\" (or clip = 0), and "
      "accumulate = 1.");
    v("threads", threads, "Threads that compute; 0: one per core.").min(0).max(1024);
    v("lanes", lanes,
      "Parts of a batch that are computed side by side, each in one thread, their gradients added: small networks train "
      "faster so. 1: none; 0: one per thread if the networks are small and the batch can be divided evenly.")
        .min(0)
        .max(1024);
    v("loader_threads", loader_threads, "Threads that read and prepare pictures ahead; 0: none.").min(0).max(64);
    v("gradient_checkpointing", gradient_checkpointing,
      "Blocks of the network keep their inputs alone and are computed again in the backward pass, which saves memory and costs "
      "time. auto: as few blocks as the memory allows, found out in the first step (small networks: none).");
    v("memory_limit", memory_limit, "What training may take, for gradient_checkpointing = \"auto\"; 0: what is free.")
        .min(0)
        .unit("GB");
    v("method", method, "What is trained.");
    v("model", model, "What it starts from.");
    v("data", data, "The pictures.");
    v("text", text, "How their captions are read.");
    v("priors", priors, "Classes whose look is preserved: their pictures, drawn by the model before training, train along.");
    v("noise", noise, "Noise schedule of a new model; a loaded one brings its own.");
    v("prediction", prediction, "What a new model's network predicts; a loaded one brings its own.");
    v("objective", objective, "The denoising loss.");
    v("optimizer", optimizer, "What becomes of a gradient.");
    v("schedule", schedule, "Learning rate over the run.");
    v("ema", ema, "Moving average of the weights.");
    v("preview", preview, "Pictures drawn while training.");
    v("validation", validation, "Loss of pictures that do not train, and whether the model tells their captions apart.");
    v("checkpoint", checkpoint, "Saving the state, for going on after an interruption.");
  }
};

/// The words that a run teaches.
std::vector<WordConfig> words_of(const RunConfig& config);

/// Reads a run file and applies `--set` overrides; relative paths in it are relative to the working folder.
/// Throws Error{config} with all problems, each with file, line and column.
RunConfig load_run_config(const std::string& file,
                          const std::vector<std::pair<std::string, std::string>>& overrides = {});

/// Rules across fields. Throws Error{config} naming the fields.
void validate(const RunConfig& config);

}  // namespace emulsion::train
