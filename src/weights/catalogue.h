// Models that have a name: those shipped with the program, and those in the user's folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace emulsion::weights {

struct ListedModel {
  std::string name;  // of its folder, or of its file without the ending
  std::filesystem::path path;
  std::string family;   // as people call it; "own sizes" for a model of none
  int64_t bytes = 0;    // on disk
  std::string licence;  // of the model card's first lines, or of a file's header; empty if neither says
  int64_t side = 0;     // of the pictures that it was made for; 0 if that is not told
};

/// Where they are looked for, first to last: each folder of $EMULSION_MODELS (separated by ':'), the program's own `models`, and
/// `emulsion/models` in $XDG_DATA_HOME or ~/.local/share. Folders that are not there are left out.
std::vector<std::filesystem::path> model_folders();

/// Model folders and model files in them, by name; of two of one name the first. Reads no weights.
std::vector<ListedModel> listed_models();

/// What is listed of a model, wherever it lies. Reads no weights. Throws: as `located`; Error{format} for a file that is no model.
ListedModel described(const std::filesystem::path& model);

/// `model` itself where something lies there, otherwise the listed model of that name, otherwise nothing.
std::optional<std::filesystem::path> found(const std::filesystem::path& model);

/// The same; throws Error{not_found} for nothing, with the name that was probably meant.
std::filesystem::path located(const std::filesystem::path& model);

}  // namespace emulsion::weights
