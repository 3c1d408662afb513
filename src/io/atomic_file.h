// Files that are either the old one or the whole new one, whatever happens while writing.
//
// A temporary `.<name>.tmp-<pid>-<n>` is written beside the target, flushed to the disk, renamed
// over the target, and then the folder is flushed. Every failure is Error{io} and names path, cause
// and remedy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace emulsion::io {

/// One file being written. Parent folders are created.
class AtomicFile {
 public:
  /// Opens the temporary. `expected_bytes` > 0: refuses at once when the disk has less room than
  /// that.
  explicit AtomicFile(std::filesystem::path target, uint64_t expected_bytes = 0);
  /// Removes the temporary unless `commit` succeeded.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends `size` bytes.
  void write(const void* data, size_t size);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }

  /// Makes the file visible under its name. Nothing may be written afterwards.
  void commit();

  const std::filesystem::path& path() const { return target_; }

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  uint64_t written_ = 0;
  uint64_t expected_ = 0;
  int descriptor_ = -1;
};

/// Replaces the file at `path` by `bytes`.
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);

/// The whole content of a file. Throws: Error{io} if it is missing, a folder, or unreadable.
std::string read_file(const std::filesystem::path& path);

/// Removes temporaries that processes which no longer run left in `folder` (not in its subfolders).
/// A folder that does not exist has none. Returns how many were removed.
int64_t remove_stale_temporaries(const std::filesystem::path& folder);

}  // namespace emulsion::io
