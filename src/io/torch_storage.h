// Internal to io: the storages that a pickle mentions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "core/tensor.h"
#include "io/pickle.h"

namespace emulsion::io {

/// A stretch of bytes that tensors view.
struct TorchStorage {
  at::ScalarType dtype = at::ScalarType::Undefined;
  uint64_t bytes = 0;
  uint64_t begin = 0;  // where in the file; set by whoever knows the format
};

/// What a tensor says of its storage.
struct StorageId {
  std::string key;
  TorchStorage storage;
  uint64_t view_begin = 0, view_bytes = 0;  // the part of it that tensors see, in bytes
};

/// Reads the id ("storage", class, key, location, elements[, view]) of a persistent node.
/// Throws: Error{format} for an id that is none.
StorageId storage_id(const std::filesystem::path& path, const Pickle& pickle,
                     const PickleNode& persistent);

/// Every storage that the pickle mentions, by its key; tensors or not. Throws: Error{format} also
/// for two ids that disagree.
std::map<std::string, TorchStorage> find_storages(const std::filesystem::path& path,
                                                  const Pickle& pickle);

/// A text, number or class as a name; nothing for other kinds.
std::optional<std::string> key_text(const PickleNode& node);

}  // namespace emulsion::io
