// A whole file as memory, read by the system only where it is looked at.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace emulsion::io {

/// A private map: writing to it stays in this process. Larger files than the memory can be mapped.
class FileMap {
 public:
  /// Throws: Error{io}.
  explicit FileMap(std::filesystem::path path);
  ~FileMap();
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;

  const std::filesystem::path& path() const { return path_; }
  char* data() const { return data_; }
  std::string_view bytes() const { return {data_, size_}; }

  /// Brings these bytes into memory at once instead of page by page when they are looked at.
  void prefetch(size_t begin, size_t end) const;

  /// Gives back the whole pages within these bytes; they are read anew if looked at again.
  void release(size_t begin, size_t end) const;

 private:
  std::filesystem::path path_;
  char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace emulsion::io
