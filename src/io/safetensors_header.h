// Internal to io: the JSON header of a safetensors file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"
#include "io/tensor_contents.h"

namespace emulsion::io {

struct SafetensorsDtype {
  const char* name;
  at::ScalarType type;
  uint64_t size;  // bytes per element
  int rank;  // order of the data in files written by the reference implementation: highest first
};

const SafetensorsDtype* find_safetensors_dtype(std::string_view name);
const SafetensorsDtype* find_safetensors_dtype(at::ScalarType type);

/// Parses `json` and checks it against the `data_size` bytes that follow it; begin and end of the
/// entries count from the start of the data. `path` is for messages only. Throws: Error{format,
/// unsupported}.
TensorContents parse_safetensors_header(const std::filesystem::path& path, std::string_view json,
                                        uint64_t data_size);

/// Product of `shape` times `element_size`; false on overflow of int64.
bool checked_bytes(const std::vector<int64_t>& shape, uint64_t element_size, uint64_t* bytes);

}  // namespace emulsion::io
