#include "generate/named_files.h"

#include <algorithm>

#include "config/suggest.h"
#include "core/error.h"
#include "io/tensor_file.h"

namespace emulsion::generate {
namespace {

namespace fs = std::filesystem;

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

bool holds_weights(const fs::path& path) {
  const std::string ending = lower(path.extension().string());
  return ending == ".safetensors" || ending == ".pt" || ending == ".bin" || ending == ".ckpt";
}

/// The name that kohya's trainers gave the file, or "". A damaged file has none; it is refused once it is used.
std::string trained_name(const fs::path& file) {
  if (file.extension() != ".safetensors") return "";
  try {
    const io::TensorFile opened = io::open_tensor_file(file);
    const auto found = opened.metadata().find("ss_output_name");
    return found == opened.metadata().end() ? "" : found->second;
  } catch (const Error&) {
    return "";
  }
}

}  // namespace

NamedFiles::NamedFiles(const fs::path& folder) : folder_(folder) {
  if (folder.empty()) return;
  EMULSION_CHECK(fs::is_directory(folder), not_found, "{}: expected a folder of weights, there is none", folder.string());
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && holds_weights(entry.path())) found.push_back(entry.path());
  }
  std::ranges::sort(found);
  for (const fs::path& file : found) files_.emplace(file.stem().string(), file);
}

void NamedFiles::add(const fs::path& file) { files_[file.stem().string()] = file; }

fs::path NamedFiles::find(const std::string& name, const std::string& kind, const std::string& option) const {
  if (const auto exact = files_.find(name); exact != files_.end()) return exact->second;
  std::vector<fs::path> fitting;
  for (const auto& [known, file] : files_) {
    if (lower(known) == lower(name)) fitting.push_back(file);
  }
  if (fitting.empty()) {
    for (const auto& [known, file] : files_) {
      if (trained_name(file) == name) fitting.push_back(file);
    }
  }
  if (fitting.size() == 1) return fitting.front();
  EMULSION_CHECK(fitting.empty(), not_found, "[prompt] {} '{}': expected one file of that name, got {} and {}", kind, name,
                 fitting[0].string(), fitting[1].string());
  const std::string guess = config::did_you_mean(name, names());
  const std::string place = folder_.empty() ? "no folder was given" : fmt::format("{} of {}", files_.size(), folder_.string());
  throw Error(ErrorCode::not_found,
              fmt::format("[prompt] {} '{}': expected one of the known names ({}){}", kind, name, place,
                          guess.empty() ? "; " + option + " names the folder that holds it" : guess));
}

std::vector<std::string> NamedFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : files_) names.push_back(name);
  return names;
}

}  // namespace emulsion::generate
