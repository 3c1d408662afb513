#include "io/tensor_file.h"

#include <cstring>

#include "core/error.h"
#include "io/content.h"
#include "io/file_map.h"
#include "io/tensor_contents.h"

namespace emulsion::io {
namespace {

// Reverses the bytes of every element; the halves of a complex number are elements of their own.
void swap_bytes(char* data, size_t size, at::ScalarType dtype) {
  const size_t width = at::elementSize(dtype) / (at::isComplexType(dtype) ? 2 : 1);
  for (size_t i = 0; i + width <= size; i += width) std::reverse(data + i, data + i + width);
}

Tensor viewed(void* data, const TensorFile::Entry& entry, std::shared_ptr<void> owner) {
  const auto options = at::TensorOptions().dtype(entry.dtype);
  const auto keep = [owner = std::move(owner)](void*) {};
  if (entry.strides.empty()) return at::from_blob(data, entry.shape, keep, options);
  return at::from_blob(data, entry.shape, entry.strides, keep, options);
}

}  // namespace

int64_t TensorFile::Entry::numel() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

uint64_t TensorFile::Entry::bytes() const {
  return static_cast<uint64_t>(numel()) * at::elementSize(dtype);
}

TensorFile::TensorFile(std::filesystem::path path, std::vector<std::shared_ptr<FileMap>> maps,
                       TensorContents contents)
    : path_(std::move(path)),
      maps_(std::move(maps)),
      format_(std::move(contents.format)),
      entries_(std::move(contents.entries)),
      metadata_(std::move(contents.metadata)) {
  for (size_t i = 0; i < entries_.size(); ++i) index_[entries_[i].name] = i;
}

std::vector<std::filesystem::path> TensorFile::files() const {
  std::vector<std::filesystem::path> paths;
  for (const auto& map : maps_) paths.push_back(map->path());
  return paths;
}

const TensorFile::Entry* TensorFile::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &entries_[found->second];
}

Tensor TensorFile::tensor(std::string_view name) const {
  const Entry* entry = find(name);
  EMULSION_CHECK(
      entry != nullptr, not_found,
      "{}: expected a tensor '{}', got none among {}; check the name with 'emulsion inspect'",
      path_.string(), printable(name, 200), entries_.size());
  return view(*entry);
}

NamedTensors TensorFile::tensors() const {
  NamedTensors all;
  all.reserve(entries_.size());
  for (const Entry& entry : entries_) all.emplace_back(entry.name, view(entry));
  return all;
}

void TensorFile::prefetch(const Entry& entry) const {
  maps_[entry.shard]->prefetch(entry.begin, entry.end);
}

void TensorFile::release(const Entry& entry) const {
  maps_[entry.shard]->release(entry.begin, entry.end);
}

Tensor TensorFile::view(const Entry& entry) const {
  const std::shared_ptr<FileMap>& map = maps_[entry.shard];
  char* const data = map->data() + entry.begin;
  const uint64_t size = entry.end - entry.begin;
  if (size == 0) return at::empty(entry.shape, at::TensorOptions().dtype(entry.dtype));
  if (entry.dtype == at::kBool) {
    const bool valid = std::all_of(data, data + size, [](char c) { return c == 0 || c == 1; });
    EMULSION_CHECK(valid, format,
                   "{}: tensor '{}': expected 0 or 1 in every byte of a BOOL tensor, got others; "
                   "the file is damaged: fetch it again",
                   map->path().string(), printable(entry.name, 200));
  }
  if (!entry.byte_swapped &&
      reinterpret_cast<uintptr_t>(data) % at::elementSize(entry.dtype) == 0) {
    return viewed(data, entry, map);
  }
  const Tensor copy = at::empty({static_cast<int64_t>(size)}, at::kByte);
  std::memcpy(copy.data_ptr(), data, size);
  if (entry.byte_swapped) swap_bytes(static_cast<char*>(copy.data_ptr()), size, entry.dtype);
  return viewed(copy.data_ptr(), entry, std::make_shared<Tensor>(copy));
}

}  // namespace emulsion::io
