#include "weights/part_folder.h"

#include <algorithm>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "weights/part_tensors.h"

namespace emulsion::weights {
namespace {

namespace fs = std::filesystem;

/// What diffusers and transformers call the files of weights, without their endings.
std::vector<std::string> stems_of(const std::string& part) {
  if (part.starts_with("text_encoder")) return {"model", "pytorch_model"};
  return {"diffusion_pytorch_model"};
}

/// Endings in the order of preference. A variant stands before the last dot of the plain name, in an index as elsewhere;
/// some writers put it behind the stem there, too.
std::vector<std::string> endings_of(const std::string& variant) {
  if (variant.empty()) return {".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json"};
  const std::string v = "." + variant;
  return {v + ".safetensors",           ".safetensors.index" + v + ".json", v + ".safetensors.index.json",
          v + ".bin",                   ".bin.index" + v + ".json",         v + ".bin.index.json"};
}

fs::path find_file(const fs::path& folder, const std::string& part, const std::string& variant) {
  for (const std::string& ending : endings_of(variant)) {
    for (const std::string& stem : stems_of(part)) {
      if (fs::exists(folder / (stem + ending))) return folder / (stem + ending);
    }
  }
  return {};
}

/// Variants of which there are files: "fp16", "non_ema".
std::set<std::string> variants_in(const fs::path& folder, const std::string& part) {
  std::set<std::string> found;
  for (const auto& item : fs::directory_iterator(folder)) {
    const std::string name = item.path().filename().string();
    for (const std::string& stem : stems_of(part)) {
      if (!name.starts_with(stem + ".")) continue;
      std::string rest = name.substr(stem.size());
      for (const char* ending : {".safetensors", ".bin", ".index", ".json"}) {
        const size_t at = rest.find(ending);
        if (at != rest.npos) rest.erase(at, std::string_view(ending).size());
      }
      const bool is_variant = rest.size() > 1 && rest.find('.', 1) == rest.npos && rest.find("-of-") == rest.npos;
      if (is_variant && !find_file(folder, part, rest.substr(1)).empty()) found.insert(rest.substr(1));
    }
  }
  return found;
}

}  // namespace

std::string folder_listing(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names.empty() ? "nothing" : list_some(names);
}

fs::path weights_file(const fs::path& folder, const std::string& part, const std::string& variant) {
  if (const fs::path file = find_file(folder, part, variant); !file.empty()) return file;
  const std::set<std::string> variants = variants_in(folder, part);
  if (variant.empty() && variants.size() == 1) {
    log::info("{}: only the variant '{}' is there; it is read", folder.string(), *variants.begin());
    return find_file(folder, part, *variants.begin());
  }
  const std::string expected = stems_of(part).front() + endings_of(variant).front();
  if (variants.empty()) {
    throw Error(ErrorCode::not_found, fmt::format("[{}] expected {}, found {}; fetch the weights of this part, or give a "
                                                  "model without it",
                                                  folder.string(), expected, folder_listing(folder)));
  }
  throw Error(ErrorCode::not_found, fmt::format("[{}] expected {}, found the variants {}; choose one with --variant",
                                                folder.string(), expected, fmt::join(variants, ", ")));
}

}  // namespace emulsion::weights
