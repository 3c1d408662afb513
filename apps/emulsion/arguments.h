// Arguments that several verbs take, or that are worth a test, from text to value.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "config/override.h"
#include "generate/generate.h"

namespace emulsion::app {

/// "optimizer.lr=1e-5" of every `--set`. Throws: Error{config}.
config::Overrides parse_overrides(const std::vector<std::string>& arguments);

/// "file:0.8" -> file, 0.8; without a number 1.
std::pair<std::string, double> file_and_weight(const std::string& text);

struct PictureSize {
  int64_t width = 0, height = 0;
};
/// "64x48". Throws: Error{config}.
PictureSize parse_size(const std::string& text);

/// A prompt as part of a file name: "A red apple!" -> "A-red-apple".
std::string slug(const std::string& prompt);

/// Where picture `index` of a request goes. `output` names a picture file (numbered from 1 if there
/// are several pictures) or a folder, in which it is called <prompt>-<seed>.png.
std::filesystem::path output_path(const std::string& output, const generate::Request& request,
                                  size_t index);

/// Where the grid of a request goes: x-grid.png beside x.png, or grid-<seed>.png in the folder.
std::filesystem::path grid_path(const std::string& output, const generate::Request& request);

}  // namespace emulsion::app
