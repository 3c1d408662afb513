// Safetensors: a strict reader over a memory map and an atomic writer.
//
// Format: 8 bytes little-endian header length, a JSON header, then the data
// (https://github.com/huggingface/safetensors#format). A file is refused unless its header is
// well-formed, holds no key twice, and its tensors cover the data exactly, without holes or
// overlap.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/tensor.h"

namespace emulsion::io {

/// An open file. Cheap to copy: copies share one memory map. Safe to read from several threads.
class SafetensorsFile {
 public:
  struct Entry {
    std::string name;
    at::ScalarType dtype;
    std::vector<int64_t> shape;
    uint64_t begin, end;  // bytes, from the start of the data
  };

  /// Throws: Error{io} if it cannot be read; Error{format} naming file, tensor key, expected and
  /// actual value if it is not a well-formed safetensors file; Error{unsupported} for a dtype ATen
  /// lacks.
  static SafetensorsFile open(const std::filesystem::path& path);

  /// In the order of the data.
  const std::vector<Entry>& entries() const { return entries_; }
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// The entry of that name, or nullptr.
  const Entry* find(std::string_view name) const;

  /// A CPU tensor that views the map and keeps it alive; nothing is copied unless the data is
  /// unaligned. The map is private: writing to the tensor never reaches the file. Throws:
  /// Error{not_found}.
  Tensor tensor(std::string_view name) const;

  /// All tensors, in the order of the data.
  NamedTensors tensors() const;

  /// The strings under "__metadata__".
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  class Map;
  SafetensorsFile() = default;
  Tensor view(const Entry& entry) const;

  std::filesystem::path path_;
  std::shared_ptr<Map> map_;
  uint64_t data_begin_ = 0;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// Writes atomically. Elements lie in logical row-major order whatever the strides; tensors lie by
/// descending element size, then by name, so that every one is aligned. Tensors may be on any
/// device. Throws: Error{io}; Error{format} if a name is empty, taken twice, not UTF-8 or
/// "__metadata__"; Error{unsupported} for a dtype the format lacks.
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace emulsion::io
