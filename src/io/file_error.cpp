#include "io/file_error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace emulsion::io {
namespace {

struct Remedy {
  int code;
  const char* text;
};

constexpr Remedy kRemedies[] = {
    {EACCES,
     "no permission: check owner and mode of the file and its folder, or use another folder"},
    {EPERM,
     "no permission: check owner and mode of the file and its folder, or use another folder"},
    {EROFS, "the disk is read-only: use a folder on another one"},
    {ENOENT, "check the path; relative ones start at the current folder"},
    {ENOTDIR, "a part of the path is a file, not a folder: check the path"},
    {EISDIR, "expected a file, got a folder: check the path"},
    {ENAMETOOLONG, "use a shorter name"},
    {EMFILE, "too many files are open: raise the limit with 'ulimit -n 65536'"},
    {ENFILE, "too many files are open on this machine: close other programs"},
    {EFBIG,
     "the file would be larger than this disk or 'ulimit -f' allows: use another disk or raise the "
     "limit"},
    {EIO, "the disk reported a fault: check it before you go on"},
    {ESTALE, "the network disk lost the file: mount it again"},
    {ENOMEM, "out of memory or address space: close other programs"},
};

std::string full_disk_text(const std::filesystem::path& path, uint64_t needed) {
  const int64_t free = free_bytes(path);
  return fmt::format(
      "disk full: {} bytes needed, {} free; free space and run the same command again", needed,
      free < 0 ? "an unknown number" : std::to_string(free));
}

std::string remedy_text(const std::filesystem::path& path, int code, uint64_t needed) {
  if (code == ENOSPC || code == EDQUOT) return full_disk_text(path, needed);
  for (const Remedy& remedy : kRemedies) {
    if (remedy.code == code) return remedy.text;
  }
  return fmt::format("error number {}", code);
}

}  // namespace

void throw_io_error(const std::filesystem::path& path, const char* action, int code,
                    uint64_t needed) {
  throw Error(ErrorCode::io, fmt::format("{}: cannot {}: {}; {}", path.string(), action,
                                         std::strerror(code), remedy_text(path, code, needed)));
}

void create_folders(const std::filesystem::path& folder) {
  if (folder.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw_io_error(folder, "create the folder", error.value());
}

int open_for_writing(const std::filesystem::path& path, int flags) {
  int descriptor;
  do {
    descriptor = ::open(path.c_str(), flags | O_CREAT | O_CLOEXEC, 0666);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) throw_io_error(path, "open for writing", errno);
  return descriptor;
}

int open_for_reading(const std::filesystem::path& path) {
  // O_NONBLOCK: a named pipe must not hang the program; it is refused below.
  int descriptor;
  do {
    descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) throw_io_error(path, "open", errno);
  struct stat status {};
  int code = ::fstat(descriptor, &status) != 0 ? errno : 0;
  if (code == 0 && S_ISDIR(status.st_mode)) code = EISDIR;
  if (code == 0 && !S_ISREG(status.st_mode)) code = EINVAL;
  if (code != 0) {
    ::close(descriptor);
    throw_io_error(path, "open as a file", code);
  }
  return descriptor;
}

void write_fully(int descriptor, const std::filesystem::path& path, const void* data, size_t size,
                 uint64_t needed) {
  const char* position = static_cast<const char*>(data);
  size_t left = size;
  while (left > 0) {
    const ssize_t count = ::write(descriptor, position, left);
    if (count < 0) {
      if (errno == EINTR) continue;
      throw_io_error(path, "write", errno, std::max<uint64_t>(needed, left));
    }
    position += count;
    left -= static_cast<size_t>(count);
  }
}

size_t read_fully(int descriptor, const std::filesystem::path& path, void* data, size_t size) {
  char* position = static_cast<char*>(data);
  size_t done = 0;
  while (done < size) {
    const ssize_t count = ::read(descriptor, position + done, size - done);
    if (count == 0) break;
    if (count < 0) {
      if (errno == EINTR) continue;
      throw_io_error(path, "read", errno);
    }
    done += static_cast<size_t>(count);
  }
  return done;
}

int64_t free_bytes(const std::filesystem::path& path) {
  struct statvfs status {};
  const std::filesystem::path folder = path.parent_path().empty() ? "." : path.parent_path();
  if (::statvfs(folder.c_str(), &status) != 0 || status.f_blocks == 0) return -1;
  return static_cast<int64_t>(status.f_bavail * status.f_frsize);
}

ScopedDescriptor::~ScopedDescriptor() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace emulsion::io
