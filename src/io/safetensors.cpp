#include "io/safetensors.h"

#include <bit>
#include <cstring>

#include "core/error.h"
#include "io/content.h"
#include "io/file_map.h"
#include "io/safetensors_header.h"
#include "io/tensor_contents.h"

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

TensorContents read_safetensors(const std::filesystem::path& path, std::string_view bytes) {
  const uint64_t length = header_length(path, bytes);
  const uint64_t data_begin = kPrefix + length;
  TensorContents contents = parse_safetensors_header(path, bytes.substr(kPrefix, length),
                                                     bytes.size() - data_begin);
  for (TensorFile::Entry& entry : contents.entries) {
    entry.begin += data_begin;
    entry.end += data_begin;
  }
  return contents;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  auto map = std::make_shared<FileMap>(path);
  TensorContents contents = read_safetensors(path, map->bytes());
  return SafetensorsFile(TensorFile(path, {std::move(map)}, std::move(contents)));
}

}  // namespace emulsion::io
