// Files that prompts call by their names: "<lora:style:0.8>", "embedding:style".
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace emulsion::generate {

class NamedFiles {
 public:
  NamedFiles() = default;
  /// The weights in a folder and below it (.safetensors, .pt, .bin, .ckpt), each under its name without the ending. Of two
  /// with one name the first in the order of paths counts. An empty path has none.
  /// Throws: Error{not_found} if there is no such folder.
  explicit NamedFiles(const std::filesystem::path& folder);

  /// Adds a file under its name without the ending; it comes before one of that name in the folder.
  void add(const std::filesystem::path& file);

  /// The file of that name; letters may be large or small if only one name fits so. Of safetensors, the name that kohya's
  /// trainers write into the file ("ss_output_name") fits too. `kind` ("LoRA") and `option` ("--lora-dir") are for messages.
  /// Throws: Error{not_found} with the closest name and the number of files.
  std::filesystem::path find(const std::string& name, const std::string& kind, const std::string& option) const;

  std::vector<std::string> names() const;

 private:
  std::filesystem::path folder_;
  std::map<std::string, std::filesystem::path> files_;
};

}  // namespace emulsion::generate
