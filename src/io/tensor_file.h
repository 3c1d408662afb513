// Files of tensors, read where they lie: safetensors, what torch.save writes (.ckpt, .pt, .pth,
// .bin), and sets of shards under an index. What a file is, its content says, not its name.
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

class FileMap;
struct TensorContents;

/// An open file, or set of shards. Cheap to copy: copies share the memory maps. Safe to read from
/// several threads.
class TensorFile {
 public:
  struct Entry {
    std::string name;  // in torch files the way through the dicts: "state_dict.betas"
    at::ScalarType dtype;
    std::vector<int64_t> shape;
    std::vector<int64_t> strides;  // in elements; nothing: row-major
    uint64_t begin, end;           // the bytes of its file from its first to its last element
    uint32_t shard = 0;            // which of files()
    bool byte_swapped = false;     // stored with the other byte order than this machine's

    int64_t numel() const;
    /// Of the elements; differs from end - begin in strided and repeating tensors.
    uint64_t bytes() const;
  };

  /// In the order of the data; of a set of shards, shard by shard.
  const std::vector<Entry>& entries() const { return entries_; }
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// The entry of that name, or nullptr.
  const Entry* find(std::string_view name) const;

  /// A CPU tensor that views the map and keeps it alive; copied only where the data is unaligned or
  /// of another byte order. Tensors of one storage share memory, as in the program that wrote them.
  /// The map is private: writing to the tensor never reaches the file. Throws: Error{not_found};
  /// Error{format} for a damaged BOOL tensor.
  Tensor tensor(std::string_view name) const;

  /// All tensors, in the order of entries().
  NamedTensors tensors() const;

  /// Says that this tensor's data is needed at once: quicker than page by page, where all of it is.
  void prefetch(const Entry& entry) const;

  /// Says that this tensor's data was copied and is not needed soon, so that its pages need not stay
  /// in memory. What was written to them through a tensor() is lost.
  void release(const Entry& entry) const;

  /// The strings under "__metadata__"; of a torch file, the texts and numbers among its tensors
  /// ("global_step" -> "470000", True and False as in Python).
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// The file that was opened; of a set of shards, its index.
  const std::filesystem::path& path() const { return path_; }
  /// Where the data lies: path(), or the shards.
  std::vector<std::filesystem::path> files() const;
  /// "safetensors", "torch zip", "torch legacy".
  const std::string& format() const { return format_; }

  /// For the openers of io. `maps`: one per file, as `shard` of the entries counts them.
  TensorFile(std::filesystem::path path, std::vector<std::shared_ptr<FileMap>> maps,
             TensorContents contents);

 private:
  Tensor view(const Entry& entry) const;

  std::filesystem::path path_;
  std::vector<std::shared_ptr<FileMap>> maps_;
  std::string format_;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// Opens a file of any format named above, or the `*.index.json` of a set of shards (diffusers',
/// transformers'). Reads the header only: opening 4 GB costs no more than opening 4 MB.
///
/// Throws: Error{io} if it cannot be read; Error{format} if it is damaged, cut off, empty, hostile
/// or something else, which the message names (a Git LFS pointer, an HTML page); Error{not_found}
/// with the names of missing shards; Error{unsupported} for a dtype that ATen lacks.
TensorFile open_tensor_file(const std::filesystem::path& path);

}  // namespace emulsion::io
