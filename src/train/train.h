// A run from its config to its result: what `emulsion train` does.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/progress.h"
#include "train/config.h"

namespace emulsion::train {

struct RunOptions {
  bool dry_run = false;  // check everything, print the plan, train nothing
  bool resume = false;   // insist that there is something to go on with
};

struct RunResult {
  std::filesystem::path folder;
  std::filesystem::path result;  // empty after a dry run
  int64_t steps = 0;             // done by this call
};

/// Trains, going on where an earlier call stopped. A finished run returns at once.
/// Throws: Error{cancelled} when the user stopped it (the state is saved); Error of every other kind as documented at
/// the parts.
RunResult run_training(const RunConfig& config, Reporter& reporter, const RunOptions& options = {});

/// The runs that a bare folder of pictures asks for: an autoencoder, then a diffusion model on it, sized to the pictures.
/// `reasons` gets one line per setting that was chosen.
std::vector<RunConfig> runs_for_folder(const std::filesystem::path& pictures, std::vector<std::string>& reasons);

/// What a folder of pictures is to become on a model.
struct BaseRun {
  std::filesystem::path pictures;
  std::string base = {};         // a model's path or name
  std::string method = "lora";   // a name of base_methods()
  std::string trigger = {};      // what captions begin with; of textual inversion the new word
  std::string class_prompt = {};  // of DreamBooth: what the class is called
};

std::vector<std::string> base_methods();

/// The run for it: settings by the number of pictures and by the model's size. `reasons` as above.
/// Throws: Error{config} for a method that is none or lacks its words; Error{not_found} for the model.
RunConfig run_on_base(const BaseRun& wanted, std::vector<std::string>& reasons);

}  // namespace emulsion::train
