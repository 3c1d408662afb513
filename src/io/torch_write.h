// Writes what Python's torch.load reads, for programs that read nothing else.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include "core/tensor.h"

namespace emulsion::io {

/// A value as Python knows it. Tensors: float32 or bfloat16.
struct PythonValue {
  struct List {
    std::vector<PythonValue> items;
  };
  struct Tuple {
    std::vector<PythonValue> items;
  };
  struct Item;
  struct Dict {
    std::vector<Item> items;
  };
  struct None {};
  std::variant<None, bool, int64_t, double, std::string, Tensor, List, Tuple, Dict> value;
};

struct PythonValue::Item {
  PythonValue key, value;
};

/// A file of torch.save's format (a ZIP archive, protocol 2), replaced atomically; torch.load reads it with weights_only, too.
/// Throws: Error{io}; Error{unsupported} for other dtypes and beyond 4 GB.
void write_torch_file(const std::filesystem::path& path, const PythonValue& root);

}  // namespace emulsion::io
