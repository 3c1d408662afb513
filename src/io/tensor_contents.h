// Internal to io: what the readers of the file formats find, before anything is viewed as a tensor.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensor_file.h"

namespace emulsion::io {

struct TensorContents {
  std::string format;
  std::vector<TensorFile::Entry> entries;  // in the order of the data
  std::map<std::string, std::string> metadata;
};

/// The readers check everything that needs no look at the data itself. `bytes` is the whole file,
/// `path` for messages only. Throw: Error{format, unsupported}.
TensorContents read_safetensors(const std::filesystem::path& path, std::string_view bytes);
TensorContents read_torch_zip(const std::filesystem::path& path, std::string_view bytes);
TensorContents read_torch_legacy(const std::filesystem::path& path, std::string_view bytes);

}  // namespace emulsion::io
