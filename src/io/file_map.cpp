#include "io/file_map.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io/file_error.h"

namespace emulsion::io {

FileMap::FileMap(std::filesystem::path path) : path_(std::move(path)) {
  const ScopedDescriptor descriptor(open_for_reading(path_));
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0) throw_io_error(path_, "read", errno);
  if (status.st_size == 0) return;
  const auto size = static_cast<size_t>(status.st_size);
  // No reserve: a file larger than the memory may be mapped.
  void* const data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                            descriptor.get(), 0);
  if (data == MAP_FAILED) throw_io_error(path_, "map into memory", errno);
  data_ = static_cast<char*>(data);
  size_ = size;
}

FileMap::~FileMap() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

void FileMap::prefetch(size_t begin, size_t end) const {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  begin = begin / page * page;
  // A hint: where the system does not know it, pages come one by one.
  if (begin < end) (void)::madvise(data_ + begin, end - begin, MADV_POPULATE_READ);
}

void FileMap::release(size_t begin, size_t end) const {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  begin = (begin + page - 1) / page * page;
  end = end == size_ ? size_ : end / page * page;
  // A hint: what the system makes of it changes no result.
  if (begin < end) (void)::madvise(data_ + begin, end - begin, MADV_DONTNEED);
}

}  // namespace emulsion::io
