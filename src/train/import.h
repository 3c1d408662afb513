// Run files and command lines of other trainers, as run files of ours.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "train/config.h"

namespace emulsion::train {

struct Imported {
  RunConfig config;
  std::string source;  // whose settings they were
  /// A setting that was not carried over, as it was written, and why.
  struct Left {
    std::string setting, reason;
  };
  std::vector<Left> left;
};

/// Reads what kohya's sd-scripts take (the TOML of --config_file, or a script with the command line), what its GUI saves (JSON), a
/// configuration of OneTrainer (JSON), or a job of ai-toolkit (YAML). Settings that mean nothing here, such as xformers, are left as well. Throws: Error{format}
/// for a file that is none of them; Error{config} for a setting that looks like a slip of the pen, and for values that cannot be.
Imported import_settings(const std::filesystem::path& file);

}  // namespace emulsion::train
