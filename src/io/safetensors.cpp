#include "io/safetensors.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "io/content.h"
#include "io/file_error.h"
#include "io/safetensors_header.h"

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

namespace emulsion::io {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr uint64_t kPrefix = 8;  // the header's length

uint64_t header_length(const std::filesystem::path& path, std::string_view bytes) {
  const std::string name = path.string();
  EMULSION_CHECK(!bytes.empty(), format,
                 "{}: expected a safetensors file, got an empty one; the download may be "
                 "incomplete: fetch it again",
                 name);
  EMULSION_CHECK(bytes.size() >= kPrefix + 2, format,
                 "{}: expected a safetensors file, got {} bytes; the download may be incomplete: "
                 "fetch it again",
                 name, bytes.size());
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kPrefix);
  const std::string looks = describe_content(bytes.substr(0, 64));
  EMULSION_CHECK(
      length <= kMaxHeader, format,
      "{}: expected a safetensors header of at most {} bytes, got {}: this looks like {}; give a "
      "safetensors file",
      name, kMaxHeader, length, looks);
  EMULSION_CHECK(
      bytes[kPrefix] == '{', format,
      "{}: expected a safetensors header that starts with '{{', got {}; give a safetensors file",
      name, looks);
  EMULSION_CHECK(length <= bytes.size() - kPrefix, format,
                 "{}: expected a header of {} bytes, got a file of {}: the file is cut off; the "
                 "download may be "
                 "incomplete: fetch it again",
                 name, length, bytes.size());
  EMULSION_CHECK(length >= 2, format,
                 "{}: expected a header of at least 2 bytes, got {}; give a safetensors file", name,
                 length);
  return length;
}

}  // namespace

class SafetensorsFile::Map {
 public:
  explicit Map(const std::filesystem::path& path) {
    const ScopedDescriptor descriptor(open_for_reading(path));
    struct stat status {};
    if (::fstat(descriptor.get(), &status) != 0) throw_io_error(path, "read", errno);
    size_ = static_cast<size_t>(status.st_size);
    if (size_ == 0) return;
    // Private: writes stay in this process. No reserve: a file larger than the memory may be
    // mapped.
    data_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                   descriptor.get(), 0);
    if (data_ == MAP_FAILED) throw_io_error(path, "map into memory", errno);
  }
  ~Map() {
    if (size_ > 0 && data_ != MAP_FAILED) ::munmap(data_, size_);
  }
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;

  char* data() const { return static_cast<char*>(data_); }
  std::string_view bytes() const { return {data(), size_}; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.path_ = path;
  file.map_ = std::make_shared<Map>(path);
  const std::string_view bytes = file.map_->bytes();
  const uint64_t length = header_length(path, bytes);
  file.data_begin_ = kPrefix + length;
  SafetensorsHeader header = parse_safetensors_header(path, bytes.substr(kPrefix, length),
                                                      bytes.size() - file.data_begin_);
  file.entries_ = std::move(header.entries);
  file.metadata_ = std::move(header.metadata);
  for (size_t i = 0; i < file.entries_.size(); ++i) file.index_[file.entries_[i].name] = i;
  return file;
}

const SafetensorsFile::Entry* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &entries_[found->second];
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  const Entry* entry = find(name);
  EMULSION_CHECK(
      entry != nullptr, not_found,
      "{}: expected a tensor '{}', got none among {}; check the name with 'emulsion inspect'",
      path_.string(), printable(name, 200), entries_.size());
  return view(*entry);
}

NamedTensors SafetensorsFile::tensors() const {
  NamedTensors all;
  all.reserve(entries_.size());
  for (const Entry& entry : entries_) all.emplace_back(entry.name, view(entry));
  return all;
}

Tensor SafetensorsFile::view(const Entry& entry) const {
  const auto options = at::TensorOptions().dtype(entry.dtype);
  char* const data = map_->data() + data_begin_ + entry.begin;
  const uint64_t size = entry.end - entry.begin;
  if (size == 0) return at::empty(entry.shape, options);
  if (entry.dtype == at::kBool) {
    const bool valid = std::all_of(data, data + size, [](char c) { return c == 0 || c == 1; });
    EMULSION_CHECK(valid, format,
                   "{}: tensor '{}': expected 0 or 1 in every byte of a BOOL tensor, got others; "
                   "the file is damaged: "
                   "fetch it again",
                   path_.string(), printable(entry.name, 200));
  }
  if (reinterpret_cast<uintptr_t>(data) % at::elementSize(entry.dtype) != 0) {
    Tensor copy = at::empty(entry.shape, options);
    std::memcpy(copy.data_ptr(), data, size);
    return copy;
  }
  return at::from_blob(
      data, entry.shape, [map = map_](void*) {}, options);
}

}  // namespace emulsion::io
