// Safetensors: a strict reader over a memory map and an atomic writer.
//
// Format: 8 bytes little-endian header length, a JSON header, then the data
// (https://github.com/huggingface/safetensors#format). A file is refused unless its header is
// well-formed, holds no key twice, and its tensors cover the data exactly, without holes or
// overlap.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "core/tensor.h"
#include "io/tensor_file.h"

namespace emulsion::io {

/// A TensorFile where nothing but safetensors will do. What a user gives as weights is opened with
/// open_tensor_file instead.
class SafetensorsFile : public TensorFile {
 public:
  /// Throws: Error{io} if it cannot be read; Error{format} naming file, tensor key, expected and
  /// actual value if it is not a well-formed safetensors file; Error{unsupported} for a dtype ATen
  /// lacks.
  static SafetensorsFile open(const std::filesystem::path& path);

 private:
  explicit SafetensorsFile(TensorFile file) : TensorFile(std::move(file)) {}
};

/// Writes atomically. Elements lie in logical row-major order whatever the strides; tensors lie by
/// descending element size, then by name, so that every one is aligned. Tensors may be on any
/// device. Throws: Error{io}; Error{format} if a name is empty, taken twice, not UTF-8 or
/// "__metadata__"; Error{unsupported} for a dtype the format lacks.
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// SHA-256 of the bytes that write_safetensors puts behind the header: what `modelspec.hash_sha256`
/// and kohya's `sshs_model_hash` are of.
std::string safetensors_data_sha256(const NamedTensors& tensors);

}  // namespace emulsion::io
