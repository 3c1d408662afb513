#include "io/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "core/error.h"
#include "io/file_error.h"

namespace emulsion::io {
namespace {

constexpr std::string_view kTemporaryMark = ".tmp-";

std::filesystem::path temporary_name(const std::filesystem::path& target) {
  static std::atomic<uint64_t> counter{0};
  return target.parent_path() / fmt::format(".{}{}{}-{}", target.filename().string(),
                                            kTemporaryMark, ::getpid(), counter++);
}

// A writer holds a lock on its temporary, so that remove_stale_temporaries can tell who is still at
// work, whatever process numbers mean on this machine. Disks without locks work too: nothing is
// removed there.
bool lock_if_linked(int descriptor) {
  ::flock(descriptor, LOCK_EX | LOCK_NB);
  struct stat status {};
  return ::fstat(descriptor, &status) != 0 || status.st_nlink > 0;
}

bool is_temporary_name(const std::string& name) {
  const size_t mark = name.rfind(kTemporaryMark);
  if (name.empty() || name[0] != '.' || mark == std::string::npos || mark == 0) return false;
  const std::string_view rest = std::string_view(name).substr(mark + kTemporaryMark.size());
  const size_t dash = rest.find('-');
  if (dash == std::string_view::npos || dash == 0 || dash + 1 == rest.size()) return false;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return std::all_of(rest.begin(), rest.begin() + dash, is_digit) &&
         std::all_of(rest.begin() + dash + 1, rest.end(), is_digit);
}

void flush_file(int descriptor, const std::filesystem::path& path, uint64_t needed) {
  while (::fsync(descriptor) != 0) {
    if (errno == EINTR) continue;
    if (errno == EINVAL || errno == ENOTSUP) return;  // some network disks cannot flush
    throw_io_error(path, "flush to the disk", errno, needed);
  }
}

void flush_folder(const std::filesystem::path& file) {
  const std::filesystem::path folder = file.parent_path().empty() ? "." : file.parent_path();
  const ScopedDescriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() < 0) {
    if (errno == EACCES) return;  // a folder that may be written but not listed
    throw_io_error(folder, "open the folder", errno);
  }
  flush_file(descriptor.get(), folder, 0);
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path target, uint64_t expected_bytes)
    : target_(std::move(target)), expected_(expected_bytes) {
  EMULSION_CHECK(target_.has_filename(), io,
                 "'{}': cannot write: the path has no file name; add one", target_.string());
  std::error_code ignored;
  EMULSION_CHECK(!std::filesystem::is_directory(target_, ignored), io,
                 "{}: cannot write: expected a file, got a folder; use another name",
                 target_.string());
  create_folders(target_.parent_path());
  const int64_t free = expected_ > 0 ? free_bytes(target_) : -1;
  if (free >= 0 && static_cast<uint64_t>(free) < expected_) {
    throw_io_error(target_, "write", ENOSPC, expected_);
  }
  for (;;) {
    temporary_ = temporary_name(target_);
    descriptor_ = open_for_writing(temporary_, O_WRONLY | O_TRUNC);
    if (lock_if_linked(descriptor_)) break;
    ::close(descriptor_);  // removed as stale between opening and locking
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  EMULSION_CHECK(descriptor_ >= 0, internal, "{}: written to after commit", target_.string());
  const uint64_t left = expected_ > written_ ? expected_ - written_ : 0;
  write_fully(descriptor_, target_, data, size, left);
  written_ += size;
}

void AtomicFile::commit() {
  EMULSION_CHECK(descriptor_ >= 0, internal, "{}: committed twice", target_.string());
  flush_file(descriptor_, target_, written_);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    throw_io_error(target_, "put the new file in place", errno);
  }
  temporary_.clear();
  const int closed = ::close(std::exchange(descriptor_, -1));
  if (closed != 0 && errno != EINTR) throw_io_error(target_, "close", errno, written_);
  flush_folder(target_);
}

void write_file_atomic(const std::filesystem::path& path, std::string_view bytes) {
  AtomicFile file(path, bytes.size());
  file.write(bytes);
  file.commit();
}

std::string read_file(const std::filesystem::path& path) {
  const ScopedDescriptor descriptor(open_for_reading(path));
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0) throw_io_error(path, "read", errno);
  std::string bytes(static_cast<size_t>(status.st_size), '\0');
  bytes.resize(read_fully(descriptor.get(), path, bytes.data(), bytes.size()));
  char piece[65536];  // a file that grew, or one whose size the system does not know
  while (const size_t count = read_fully(descriptor.get(), path, piece, sizeof(piece))) {
    bytes.append(piece, count);
  }
  return bytes;
}

int64_t remove_stale_temporaries(const std::filesystem::path& folder) {
  int64_t removed = 0;
  std::error_code error;
  std::filesystem::directory_iterator iterator(folder, error);
  if (error.value() == ENOENT) return 0;
  if (error) throw_io_error(folder, "list the folder", error.value());
  for (const auto& entry : iterator) {
    if (!is_temporary_name(entry.path().filename().string())) continue;
    if (!entry.is_regular_file(error) || entry.is_symlink(error)) continue;
    const ScopedDescriptor descriptor(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    if (descriptor.get() < 0 || ::flock(descriptor.get(), LOCK_EX | LOCK_NB) != 0) continue;
    removed += ::unlink(entry.path().c_str()) == 0 ? 1 : 0;
  }
  return removed;
}

}  // namespace emulsion::io
