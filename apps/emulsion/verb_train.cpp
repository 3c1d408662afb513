// emulsion train: from a run file, or from nothing but a folder of pictures, to a result.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "arguments.h"
#include "config/config.h"
#include "core/error.h"
#include "core/stop.h"
#include "io/jsonl.h"
#include "terminal.h"
#include "train/train.h"
#include "verbs.h"

namespace emulsion::app {
namespace {

struct Arguments {
  std::string what;
  std::string base, method, trigger, class_prompt;
  std::vector<std::string> set;
  bool resume = false, dry_run = false, json = false;
};

void tell(const Arguments& arguments, const std::vector<std::string>& reasons, Reporter& reporter) {
  reporter.note("Settings chosen for " + arguments.what + " (change them with --set KEY=VALUE):");
  for (const std::string& reason : reasons) reporter.note("  " + reason);
}

/// The run of a folder on a model.
train::RunConfig base_run(const Arguments& arguments, Reporter& reporter) {
  std::vector<std::string> reasons;
  train::BaseRun wanted = {.pictures = arguments.what, .base = arguments.base, .trigger = arguments.trigger,
                           .class_prompt = arguments.class_prompt};
  if (!arguments.method.empty()) wanted.method = arguments.method;
  train::RunConfig run = train::run_on_base(wanted, reasons);
  tell(arguments, reasons, reporter);
  for (const auto& [key, value] : parse_overrides(arguments.set)) config::override_field(run, key, value);
  return run;
}

/// The runs of a bare folder, with the reasons for their settings told to the user.
std::vector<train::RunConfig> folder_runs(const Arguments& arguments, Reporter& reporter) {
  std::vector<std::string> reasons;
  std::vector<train::RunConfig> runs = train::runs_for_folder(arguments.what, reasons);
  tell(arguments, reasons, reporter);
  for (const auto& [key, value] : parse_overrides(arguments.set)) {
    for (train::RunConfig& run : runs) {
      // One name for all: each keeps its own ending, since each has its own folder.
      const std::string ending = run.name.substr(run.name.rfind('-'));
      config::override_field(run, key, key == "name" ? value + ending : value);
    }
  }
  // The model builds on the autoencoder, wherever that is written.
  runs.back().model.vae =
      (std::filesystem::path(runs.front().output) / runs.front().name / "model").string();
  return runs;
}

std::vector<train::RunConfig> runs_of(const Arguments& arguments, Reporter& reporter) {
  const std::filesystem::path of_run_folder = std::filesystem::path(arguments.what) / "config.toml";
  if (std::filesystem::exists(of_run_folder)) {  // the folder of an earlier run: go on with it
    return {train::load_run_config(of_run_folder.string(), parse_overrides(arguments.set))};
  }
  const bool is_folder = std::filesystem::is_directory(arguments.what);
  if (is_folder && !arguments.base.empty()) return {base_run(arguments, reporter)};
  EMULSION_CHECK(arguments.base.empty() && arguments.method.empty() && arguments.trigger.empty() && arguments.class_prompt.empty(),
                 config, "{}",
                 is_folder
                     ? "--method, --trigger and --class choose settings for a folder on a model; give --base MODEL, too"
                     : "--base, --method, --trigger and --class choose settings for a folder of pictures; a run file has its own");
  if (is_folder) return folder_runs(arguments, reporter);
  const bool is_run_file =
      arguments.what.ends_with(".toml") || std::filesystem::exists(arguments.what);
  EMULSION_CHECK(
      is_run_file, not_found,
      "{}: expected a run file (.toml) or a folder of pictures, found neither; check the path",
      arguments.what);
  return {train::load_run_config(arguments.what, parse_overrides(arguments.set))};
}

void print(const train::RunResult& result, bool json) {
  if (json) {
    std::printf("%s\n", io::json_line({{"event", "result"},
                                       {"folder", result.folder.string()},
                                       {"result", result.result.string()},
                                       {"steps", result.steps}})
                            .c_str());
  } else if (!result.result.empty()) {
    std::printf("result  %s\nfolder  %s\n", result.result.c_str(), result.folder.c_str());
  }
}

void train_all(const Arguments& arguments) {
  install_stop_handlers();
  const std::unique_ptr<Reporter> reporter = make_reporter(arguments.json);
  for (const train::RunConfig& run : runs_of(arguments, *reporter)) {
    print(train::run_training(run, *reporter,
                              {.dry_run = arguments.dry_run, .resume = arguments.resume}),
          arguments.json);
    // What the later runs of a folder start from is made by the earlier ones.
    if (arguments.dry_run) break;
  }
}

}  // namespace

void add_train(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb =
      add_verb(app, "train",
               "Trains as a run file says, or on a folder of captioned pictures with settings "
               "chosen for it.\n"
               "The same command goes on where it stopped. Ctrl-C saves the state and stops (exit "
               "code 75).\n"
               "Steps may change meanwhile, while no learning rate of the steps done does; previews, "
               "validation and checkpoints always.\n"
               "The run folder (runs/NAME) holds metrics, previews, checkpoints and the result.",
               "emulsion train configs/quickstart/style.toml --set steps=500\n"
               "  emulsion train photos --base models/sd-v1-5.safetensors --trigger mystyle\n"
               "  emulsion train photos");
  verb->add_option("run", arguments->what, "The run file, or a folder of pictures")
      ->required()
      ->option_text("RUN.toml|FOLDER");
  verb->add_option("--base", arguments->base, "Of a folder: the model to train on; without it a new one")->option_text("MODEL");
  verb->add_option("--method", arguments->method, fmt::format("{} [lora]", fmt::join(train::base_methods(), ", ")))
      ->option_text("NAME");
  verb->add_option("--trigger", arguments->trigger, "What every caption begins with; the new word")->option_text("WORDS");
  verb->add_option("--class", arguments->class_prompt, "dreambooth: what the class is called")->option_text("PROMPT");
  verb->add_option("--set", arguments->set,
                   "Change one setting, e.g. optimizer.lr=1e-5; may be repeated")
      ->option_text("KEY=VALUE")
      ->allow_extra_args(false);
  verb->add_flag("--resume", arguments->resume, "Refuse to start anew: there must be a checkpoint");
  verb->add_flag("--dry-run", arguments->dry_run,
                 "Check config, files and data, try two steps, print the plan with time and memory, keep nothing");
  add_json(*verb, arguments->json);
  verb->callback([arguments] { train_all(*arguments); });
}

}  // namespace emulsion::app
