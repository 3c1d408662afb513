// A run file with every type of field, shared by the tests of the config engine.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace emulsion::config::example {

enum class Prediction { epsilon, v, sample };

constexpr auto enum_names(Prediction) {
  return std::to_array<std::pair<Prediction, const char*>>(
      {{Prediction::epsilon, "epsilon"}, {Prediction::v, "v"}, {Prediction::sample, "sample"}});
}

struct Lora {
  static constexpr const char* kType = "lora";
  static constexpr const char* kDoc = "Low-rank update.";
  int64_t rank = 16;
  double alpha = 16;
  std::vector<std::string> targets = {"unet.*"};

  template <class V>
  void fields(V& v) {
    v("rank", rank, "Rank of the update.").min(1).max(1024);
    v("alpha", alpha, "Numerator of the scale.").above(0);
    v("targets", targets, "Glob patterns over layer paths.");
  }
};

struct Full {
  static constexpr const char* kType = "full";
  bool train_text = false;

  template <class V>
  void fields(V& v) {
    v("train_text", train_text, "Trains the text encoder too.");
  }
};

struct Source {
  std::string folder;
  int64_t repeats = 1;

  template <class V>
  void fields(V& v) {
    v("folder", folder, "Folder of pictures.").required();
    v("repeats", repeats, "Times per epoch.").min(1);
  }
};

struct Data {
  int64_t size = 512;
  std::vector<Source> sources;
  std::vector<int64_t> buckets = {512, 768};

  template <class V>
  void fields(V& v) {
    v("size", size, "Side of the picture.").min(64).max(4096).unit("px");
    v("sources", sources, "Where the pictures are.");
    v("buckets", buckets, "Sides of the buckets.").min(64).unit("px");
  }
};

struct Optimizer {
  double lr = 1e-4;
  double weight_decay = 0.01;
  std::vector<double> betas = {0.9, 0.999};

  template <class V>
  void fields(V& v) {
    v("lr", lr, "Learning rate.").above(0).max(1).note("Typical: 1e-4 for LoRA.");
    v("weight_decay", weight_decay, "Decoupled decay.").min(0);
    v("betas", betas, "Decay of the moments.").min(0).below(1);
  }
};

struct Validation {
  int64_t every = 100;

  template <class V>
  void fields(V& v) {
    v("every", every, "Steps between validations.").min(1).unit("steps");
  }
};

struct RunFile {
  std::string name = "run";
  int64_t seed = 0;
  int64_t workers = 2;
  bool preview = true;
  std::string device = "cpu";
  std::optional<int64_t> max_steps;
  std::optional<double> clip = 1.0;
  std::optional<std::string> resume_from;
  Prediction prediction = Prediction::epsilon;
  Optimizer optimizer;
  std::variant<Full, Lora> method = Lora{.rank = 8};
  Data data;
  std::map<std::string, double> weights = {{"mse", 1.0}};
  std::map<std::string, Source> extra;
  std::optional<Validation> validation;
  std::vector<std::variant<Full, Lora>> stages;

  template <class V>
  void fields(V& v) {
    v("name", name, "Name of the run.");
    v("seed", seed, "Seed of everything random.").min(0);
    v("workers", workers, "Loader threads.").choices({1, 2, 4});
    v("preview", preview, "Draws previews.");
    v("device", device, "Where to compute.").choices({"cpu", "cuda"});
    v("max_steps", max_steps, "Stops here.").min(1).unit("steps");
    v("clip", clip, "Largest gradient norm.").above(0);
    v("resume_from", resume_from, "Checkpoint to start from.");
    v("prediction", prediction, "What the network predicts.");
    v("optimizer", optimizer, "The optimizer.");
    v("method", method, "Which tensors train.");
    v("data", data, "The pictures.");
    v("weights", weights, "Weight of each loss.").min(0);
    v("extra", extra, "Sources by name.");
    v("validation", validation, "Validation, if wanted.");
    v("stages", stages, "Further stages.");
  }
};

}  // namespace emulsion::config::example
