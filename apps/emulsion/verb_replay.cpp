// emulsion replay: a run's losses and gradients on recorded inputs.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "arguments.h"
#include "config/config.h"
#include "core/device.h"
#include "core/error.h"
#include "core/stop.h"
#include "io/jsonl.h"
#include "io/safetensors.h"
#include "train/replay.h"
#include "verbs.h"

namespace emulsion::app {
namespace {

struct Arguments {
  std::string run, recording, adapter, output;
  std::vector<std::string> set;
  bool update = false, json = false;
};

/// Puts the tensors of a file into the trainable tensors of the same names.
void load_trainables(train::Method& method, const std::string& path) {
  const auto file = io::SafetensorsFile::open(path);
  const at::NoGradGuard no_grad;
  for (const train::Trainable& trainable : method.trainables()) {
    EMULSION_CHECK(
        file.contains(trainable.name), not_found,
        "{}: expected the tensor '{}' of this run's adapter, the file has no such name; use a file "
        "written with the same method settings",
        path, trainable.name);
    const Tensor value = file.tensor(trainable.name);
    EMULSION_CHECK(value.sizes() == trainable.place->sizes(), shape,
                   "{}: '{}': expected [{}], got [{}]", path, trainable.name,
                   fmt::join(trainable.place->sizes(), ", "), fmt::join(value.sizes(), ", "));
    trainable.place->copy_(value);
  }
}

void run(const Arguments& arguments) {
  const train::RunConfig config =
      train::load_run_config(arguments.run, parse_overrides(arguments.set));
  set_compute_threads(config.threads);
  const auto recording = io::SafetensorsFile::open(arguments.recording);
  const auto method = train::make_method(config);
  if (!arguments.adapter.empty()) load_trainables(*method, arguments.adapter);
  const NamedTensors result = train::replay(config, *method, recording, arguments.update);
  io::write_safetensors(arguments.output, result);
  for (const auto& [name, value] : result) {
    if (!name.ends_with(".loss")) continue;
    const double loss = value.item<double>();
    const io::JsonFields event = {{"event", "loss"}, {"name", name}, {"loss", loss}};
    if (arguments.json)
      std::printf("%s\n", io::json_line(event).c_str());
    else
      std::printf("%-16s %.9g\n", name.c_str(), loss);
  }
  if (!arguments.json) std::printf("%zu tensors in %s\n", result.size(), arguments.output.c_str());
}

}  // namespace

void add_replay(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = add_verb(app, "replay",
                            "Runs a run file's method on recorded inputs, to compare it with "
                            "another trainer number for number.\n"
                            "The recording holds step.K.latents (scaled), .noise, .timesteps and "
                            ".context or .input_ids; the output\n"
                            "step.K.prediction, .loss and .grad.NAME for every tensor that trains.",
                            "emulsion replay run.toml recording.safetensors -o ours.safetensors");
  verb->add_option("run", arguments->run, "The run file")->required()->option_text("RUN.toml");
  verb->add_option("recording", arguments->recording, "The recorded inputs")
      ->required()
      ->option_text("RECORDING.safetensors");
  verb->add_option("--adapter", arguments->adapter,
                   "Start from this adapter (kohya's names) instead of a fresh one")
      ->option_text("FILE");
  verb->add_option("--set", arguments->set, "Change one setting; may be repeated")
      ->option_text("KEY=VALUE")
      ->allow_extra_args(false);
  verb->add_flag("--update", arguments->update, "Take the optimizer steps too; writes final.NAME");
  verb->add_option("-o,--output", arguments->output, "Where to write")
      ->required()
      ->option_text("OUT.safetensors");
  add_json(*verb, arguments->json);
  verb->callback([arguments] { run(*arguments); });
}

}  // namespace emulsion::app
