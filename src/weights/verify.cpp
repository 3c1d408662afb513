#include "weights/verify.h"

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/hash.h"

namespace emulsion::weights {
namespace {

constexpr uint64_t kOldBegin = 0x100000, kOldEnd = 0x110000;

/// Updates a hash with the bytes of a file that lie in [begin, end).
class RangeHash {
 public:
  RangeHash(uint64_t begin, uint64_t end) : begin_(begin), end_(end) {}

  void update(uint64_t offset, std::string_view piece) {
    const uint64_t from = std::max(begin_, offset), to = std::min(end_, offset + piece.size());
    if (from < to) hash_.update(piece.substr(from - offset, to - from));
  }
  std::string finish() { return hash_.finish(); }

 private:
  uint64_t begin_, end_;
  io::Sha256 hash_;
};

/// Where the data of a safetensors file begins; 0 for other files.
uint64_t data_begin(const std::filesystem::path& path, uint64_t size) {
  std::ifstream file(path, std::ios::binary);
  char start[9] = {};
  uint64_t length = 0;
  if (!file.read(start, sizeof(start))) return 0;
  std::memcpy(&length, start, sizeof(length));
  return start[8] == '{' && length + 8 <= size ? length + 8 : 0;
}

/// Where the hashes of a file as it is now are remembered; empty where the user has no such folder.
std::filesystem::path memory_of(const std::filesystem::path& path) {
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  std::filesystem::path folder;
  if (cache != nullptr && *cache != 0) {
    folder = cache;
  } else if (home != nullptr && *home != 0) {
    folder = std::filesystem::path(home) / ".cache";
  } else {
    return {};
  }
  const auto changed = std::filesystem::last_write_time(path).time_since_epoch().count();
  const std::string place = std::filesystem::canonical(path).string();
  const std::string state = fmt::format("{}\n{}\n{}", place, std::filesystem::file_size(path), changed);
  return folder / "emulsion" / "hashes" / io::sha256_hex(state);
}

}  // namespace

FileHashes hashes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EMULSION_CHECK(file.good(), io, "{}: cannot open; check path and permissions", path.string());
  const uint64_t size = std::filesystem::file_size(path), begin = data_begin(path, size);
  RangeHash whole(0, size), data(begin, size), old(kOldBegin, kOldEnd);
  std::string piece(4 << 20, '\0');
  uint64_t offset = 0;
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())) || file.gcount() > 0) {
    const std::string_view read(piece.data(), static_cast<size_t>(file.gcount()));
    whole.update(offset, read);
    if (begin > 0) data.update(offset, read);
    old.update(offset, read);
    offset += read.size();
  }
  EMULSION_CHECK(offset == size, io, "{}: read {} of {} bytes; check the disk", path.string(), offset, size);
  return {whole.finish(), begin > 0 ? data.finish() : "", old.finish().substr(0, 8)};
}

FileHashes remembered_hashes(const std::filesystem::path& path) {
  constexpr size_t kDigits = 64;
  EMULSION_CHECK(std::filesystem::is_regular_file(path), io, "{}: expected a file; check the path", path.string());
  const std::filesystem::path memory = memory_of(path);
  FileHashes hashes;
  std::ifstream remembered(memory);
  if (std::getline(remembered, hashes.sha256) && std::getline(remembered, hashes.data_sha256) &&
      std::getline(remembered, hashes.old_hash) && hashes.sha256.size() == kDigits) {
    return hashes;
  }
  hashes = hashes_of(path);
  std::error_code failed;
  if (!memory.empty() && (std::filesystem::create_directories(memory.parent_path(), failed), !failed)) {
    try {
      io::write_file_atomic(memory, hashes.sha256 + "\n" + hashes.data_sha256 + "\n" + hashes.old_hash + "\n");
    } catch (const Error&) {  // only the next call's time is lost
    }
  }
  return hashes;
}

std::vector<NotFinite> not_finite(const io::TensorFile& file) {
  std::vector<NotFinite> found;
  for (const auto& entry : file.entries()) {
    if (!at::isFloatingType(entry.dtype)) continue;
    Tensor values = file.tensor(entry.name);
    if (values.element_size() == 1) values = values.to(at::kFloat);  // eight-bit floats have no comparisons
    if (!at::isfinite(values).all().item<bool>()) {
      found.push_back({entry.name, at::isnan(values).sum().item<int64_t>(), at::isinf(values).sum().item<int64_t>(),
                       entry.numel()});
    }
    file.release(entry);
  }
  return found;
}

}  // namespace emulsion::weights
