// The folder of one part of a model: which of its files holds the weights.
#pragma once

#include <filesystem>
#include <string>

namespace emulsion::weights {

/// What there is in a folder, for messages: "config.json, weights.bin and 3 more".
std::string folder_listing(const std::filesystem::path& folder);

/// The file of weights, or the index of a set of shards, of `part` in its `folder`: safetensors before .bin, plain files
/// before variants. `variant` as in LoadOptions. Throws: Error{not_found} saying what was expected and what is there.
std::filesystem::path weights_file(const std::filesystem::path& folder, const std::string& part,
                                   const std::string& variant);

}  // namespace emulsion::weights
