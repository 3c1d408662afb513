// Internal to io: failed system calls as errors that say what to do, and a file descriptor that
// reports them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

namespace emulsion::io {

/// Throws Error{io}: "<path>: cannot <action>: <strerror(code)>; <remedy>". `needed`: bytes still
/// to be written, named together with the free space if the disk is full.
[[noreturn]] void throw_io_error(const std::filesystem::path& path, const char* action, int code,
                                 uint64_t needed = 0);

/// Creates a folder and its parents. Throws: Error{io}.
void create_folders(const std::filesystem::path& folder);

/// Opens (and creates) a file for writing; `flags` as for open(2). Throws: Error{io}.
int open_for_writing(const std::filesystem::path& path, int flags);

/// Opens a regular file for reading. Throws: Error{io}.
int open_for_reading(const std::filesystem::path& path);

/// Writes everything, whatever write(2) does in between. `needed` as above; 0 stands for `size`.
void write_fully(int descriptor, const std::filesystem::path& path, const void* data, size_t size,
                 uint64_t needed = 0);

/// Reads up to `size` bytes; fewer only at the end of the file.
size_t read_fully(int descriptor, const std::filesystem::path& path, void* data, size_t size);

/// Free bytes of the disk that holds `path`, or -1 if it does not tell.
int64_t free_bytes(const std::filesystem::path& path);

/// Closes when it goes out of scope.
class ScopedDescriptor {
 public:
  explicit ScopedDescriptor(int descriptor) : descriptor_(descriptor) {}
  ~ScopedDescriptor();
  ScopedDescriptor(const ScopedDescriptor&) = delete;
  ScopedDescriptor& operator=(const ScopedDescriptor&) = delete;
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

}  // namespace emulsion::io
