#include "io/zip.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "core/error.h"
#include "io/content.h"

namespace emulsion::io {
namespace {

using namespace std::string_view_literals;

constexpr size_t kEndSize = 22, kEnd64Size = 56, kLocatorSize = 20, kEntrySize = 46,
                 kLocalSize = 30;
constexpr uint64_t kMaxRecords = 500'000;
constexpr uint32_t kIn64 = 0xffffffff;  // the number stands in the ZIP64 field instead

// Bits of the flags: sizes follow the data; names are UTF-8; the level of a compression.
constexpr uint16_t kSizesFollow = 1 << 3, kHarmlessFlags = kSizesFollow | 1 << 11 | 1 << 1 | 1 << 2;

template <class T>
T number_at(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

struct Directory {
  uint64_t begin = 0, size = 0, count = 0;
};

struct Entry {
  std::string_view name, extra;
  uint16_t flags = 0, method = 0;
  uint64_t compressed = 0, size = 0;
  uint64_t local = 0;  // where the header in front of the data lies
};

class ZipReader {
 public:
  ZipReader(const std::filesystem::path& path, std::string_view bytes)
      : path_(path), bytes_(bytes) {}
  std::vector<ZipRecord> read();

 private:
  [[noreturn]] void refuse(uint64_t at, const std::string& message) const {
    throw Error(ErrorCode::format, fmt::format("{}: byte {}: {}", path_.string(), at, message));
  }
  Directory find_directory() const;
  Directory find_directory64(uint64_t end) const;
  Entry read_entry(uint64_t& at, uint64_t end) const;
  void read_sizes64(Entry& entry, uint64_t at, bool with_offset) const;
  void check_stored(const Entry& entry, uint64_t at) const;
  ZipRecord locate(const Entry& entry, uint64_t directory) const;
  void check_local(const Entry& entry) const;
  void check_layout(const std::vector<std::pair<uint64_t, ZipRecord>>& records,
                    uint64_t directory) const;

  const std::filesystem::path& path_;
  std::string_view bytes_;
};

constexpr const char* kCutOff = "the archive is cut off or something was appended: fetch it again";
constexpr const char* kDamaged = "the archive is damaged or hostile: fetch it again";

Directory ZipReader::find_directory() const {
  const uint64_t size = bytes_.size();
  const uint64_t at = size - std::min<uint64_t>(size, kEndSize);
  const bool found = size >= kEndSize && bytes_.substr(at).starts_with("PK\5\6"sv) &&
                     number_at<uint16_t>(bytes_, at + 20) == 0;
  if (!(found)) {
    refuse(at, fmt::format("expected the end of a ZIP archive, without a comment, got other "
                           "data; {}",
                           kCutOff));
  }
  const std::string_view end = bytes_.substr(at);
  const bool one_disk = number_at<uint32_t>(end, 4) == 0 &&
                        number_at<uint16_t>(end, 8) == number_at<uint16_t>(end, 10);
  if (!(one_disk)) {
    refuse(at, fmt::format("expected an archive of one part, got one of several; {}", kDamaged));
  }
  if (at >= kLocatorSize && bytes_.substr(at - kLocatorSize).starts_with("PK\6\7"sv)) {
    return find_directory64(at - kLocatorSize);
  }
  const Directory directory{number_at<uint32_t>(end, 16), number_at<uint32_t>(end, 12),
                            number_at<uint16_t>(end, 10)};
  if (!(directory.begin + directory.size == at)) {
    refuse(at, fmt::format("expected the directory to end here, got one of {} bytes at {}; {}",
                           directory.size, directory.begin, kCutOff));
  }
  return directory;
}

Directory ZipReader::find_directory64(uint64_t locator) const {
  const uint64_t at = number_at<uint64_t>(bytes_, locator + 8);
  if (!(locator >= kEnd64Size && at == locator - kEnd64Size &&
        bytes_.substr(at).starts_with("PK\6\6"sv) &&
        number_at<uint64_t>(bytes_, at + 4) == kEnd64Size - 12)) {
    refuse(locator,
           fmt::format("expected a ZIP64 end record right before, got one at {}; {}", at, kCutOff));
  }
  const Directory directory{number_at<uint64_t>(bytes_, at + 48),
                            number_at<uint64_t>(bytes_, at + 40),
                            number_at<uint64_t>(bytes_, at + 32)};
  const bool one_disk = number_at<uint64_t>(bytes_, at + 16) == 0 &&
                        number_at<uint64_t>(bytes_, at + 24) == directory.count;
  if (!(one_disk)) {
    refuse(at, fmt::format("expected an archive of one part, got one of several; {}", kDamaged));
  }
  if (!(directory.size <= at && directory.begin == at - directory.size)) {
    refuse(at, fmt::format("expected the directory to end here, got one of {} bytes at {}; {}",
                           directory.size, directory.begin, kCutOff));
  }
  return directory;
}

// The fields of 64 bits stand in this order, and only where the field of 32 bits is full.
void ZipReader::read_sizes64(Entry& entry, uint64_t at, bool with_offset) const {
  std::vector<uint64_t*> wanted;
  if (entry.size == kIn64) wanted.push_back(&entry.size);
  if (entry.compressed == kIn64) wanted.push_back(&entry.compressed);
  if (with_offset && entry.local == kIn64) wanted.push_back(&entry.local);
  std::string_view extra = entry.extra;
  while (!wanted.empty() && extra.size() >= 4) {
    const size_t size = number_at<uint16_t>(extra, 2);
    if (size > extra.size() - 4) break;
    if (number_at<uint16_t>(extra, 0) == 1 && size >= 8 * wanted.size()) {
      for (size_t i = 0; i < wanted.size(); ++i) *wanted[i] = number_at<uint64_t>(extra, 4 + 8 * i);
      return;
    }
    extra.remove_prefix(4 + size);
  }
  if (!(wanted.empty())) {
    refuse(at, fmt::format("record '{}': expected a ZIP64 field with its size, got none; {}",
                           printable(entry.name), kDamaged));
  }
}

void ZipReader::check_stored(const Entry& entry, uint64_t at) const {
  const std::string name = printable(entry.name);
  if (!((entry.flags & 1) == 0)) {
    refuse(at, fmt::format(
                   "record '{}': expected a readable record, got an encrypted one; save the file "
                   "again without a password",
                   name));
  }
  if (!((entry.flags & ~kHarmlessFlags) == 0)) {
    refuse(at, fmt::format("record '{}': expected plain flags, got 0x{:x}; {}", name, entry.flags,
                           kDamaged));
  }
  if (!(entry.method == 0 && entry.compressed == entry.size)) {
    refuse(at, fmt::format(
                   "record '{}': expected stored data, got {} bytes compressed (method {}) to {}; "
                   "torch.save does not compress: open and save the file with PyTorch, or pack it "
                   "again with 'zip -0'",
                   name, entry.size, entry.method, entry.compressed));
  }
}

Entry ZipReader::read_entry(uint64_t& at, uint64_t end) const {
  if (!(end - at >= kEntrySize && bytes_.substr(at).starts_with("PK\1\2"sv))) {
    refuse(at, fmt::format("expected an entry of the archive's directory, got other data; {}",
                           kDamaged));
  }
  const std::string_view fields = bytes_.substr(at, end - at);
  const size_t name = number_at<uint16_t>(fields, 28), extra = number_at<uint16_t>(fields, 30),
               comment = number_at<uint16_t>(fields, 32);
  if (!(name + extra + comment <= fields.size() - kEntrySize && comment == 0 &&
        number_at<uint16_t>(fields, 34) == 0)) {
    refuse(at,
           fmt::format("expected an entry that ends within the directory, without a comment and on "
                       "the first disk, got one of {} bytes; {}",
                       kEntrySize + name + extra + comment, kDamaged));
  }
  Entry entry{fields.substr(kEntrySize, name), fields.substr(kEntrySize + name, extra)};
  entry.flags = number_at<uint16_t>(fields, 8);
  entry.method = number_at<uint16_t>(fields, 10);
  entry.compressed = number_at<uint32_t>(fields, 20);
  entry.size = number_at<uint32_t>(fields, 24);
  entry.local = number_at<uint32_t>(fields, 42);
  read_sizes64(entry, at, true);
  check_stored(entry, at);
  at += kEntrySize + name + extra;
  return entry;
}

// The header in front of the data says the same as the directory, or leaves the sizes to it.
void ZipReader::check_local(const Entry& entry) const {
  const std::string_view fields = bytes_.substr(entry.local);
  Entry local{entry.name,
              fields.substr(kLocalSize + entry.name.size(), number_at<uint16_t>(fields, 28))};
  local.flags = number_at<uint16_t>(fields, 6);
  local.method = number_at<uint16_t>(fields, 8);
  local.compressed = number_at<uint32_t>(fields, 18);
  local.size = number_at<uint32_t>(fields, 22);
  const bool later = (entry.flags & kSizesFollow) != 0;
  if (!later || local.size == kIn64) read_sizes64(local, entry.local, false);
  const bool sizes = (local.compressed == entry.compressed && local.size == entry.size) ||
                     (later && local.compressed == 0 && local.size == 0);
  if (!(local.flags == entry.flags && local.method == entry.method && sizes)) {
    refuse(entry.local,
           fmt::format(
               "record '{}': expected flags 0x{:x}, method {} and {} bytes as in the directory, "
               "got 0x{:x}, {} and {}; {}",
               printable(entry.name), entry.flags, entry.method, entry.size, local.flags,
               local.method, local.size, kDamaged));
  }
}

ZipRecord ZipReader::locate(const Entry& entry, uint64_t directory) const {
  const std::string name = printable(entry.name);
  if (!(entry.local <= directory && directory - entry.local >= kLocalSize &&
        bytes_.substr(entry.local).starts_with("PK\3\4"sv))) {
    refuse(
        std::min<uint64_t>(entry.local, bytes_.size()),
        fmt::format("record '{}': expected its header here, got other data; {}", name, kDamaged));
  }
  const size_t name_size = number_at<uint16_t>(bytes_, entry.local + 26);
  const uint64_t begin =
      entry.local + kLocalSize + name_size + number_at<uint16_t>(bytes_, entry.local + 28);
  const std::string_view local_name = bytes_.substr(entry.local + kLocalSize, name_size);
  if (!(local_name == entry.name)) {
    refuse(entry.local, fmt::format("record '{}': expected the name of the directory, got '{}'; {}",
                                    name, printable(local_name), kDamaged));
  }
  if (!(begin <= directory && entry.size <= directory - begin)) {
    refuse(
        entry.local,
        fmt::format("record '{}': expected {} bytes before the directory at {}, got {}; {}", name,
                    entry.size, directory, directory - std::min(begin, directory), kDamaged));
  }
  check_local(entry);
  return {entry.name, begin, begin + entry.size};
}

// From the first byte to the directory, record follows record; between them only the sizes that may
// follow the data.
void ZipReader::check_layout(const std::vector<std::pair<uint64_t, ZipRecord>>& records,
                             uint64_t directory) const {
  constexpr uint64_t kSizesFollowing = 24;
  uint64_t end = 0;
  for (size_t i = 0; i <= records.size(); ++i) {
    const uint64_t next = i < records.size() ? records[i].first : directory;
    if (next < end || next - end > (i == 0 ? 0 : kSizesFollowing)) {
      refuse(next,
             fmt::format("expected {} right behind byte {}, got {}; {}",
                         i < records.size() ? "record '" + printable(records[i].second.name) + "'"
                                            : "the directory",
                         end, next < end ? "it overlapping" : "other data between", kDamaged));
    }
    if (i < records.size()) end = records[i].second.end;
  }
}

std::vector<ZipRecord> ZipReader::read() {
  const Directory directory = find_directory();
  if (!(directory.count <= kMaxRecords && directory.count * kEntrySize <= directory.size)) {
    refuse(
        directory.begin,
        fmt::format(
            "expected a directory of {} bytes for {} records and at most {} of them, got one "
            "of {}; {}",
            directory.count * kEntrySize, directory.count, kMaxRecords, directory.size, kDamaged));
  }
  std::vector<std::pair<uint64_t, ZipRecord>> found;  // with the place of its header
  std::unordered_set<std::string_view> names;
  uint64_t at = directory.begin;
  for (uint64_t i = 0; i < directory.count; ++i) {
    const uint64_t entry_at = at;
    const Entry entry = read_entry(at, directory.begin + directory.size);
    if (!(names.insert(entry.name).second)) {
      refuse(entry_at, fmt::format("record '{}': expected each name once, got it twice; {}",
                                   printable(entry.name), kDamaged));
    }
    found.emplace_back(entry.local, locate(entry, directory.begin));
  }
  if (!(at == directory.begin + directory.size)) {
    refuse(at,
           fmt::format("expected the end of the directory after {} records, got {} more bytes; {}",
                       directory.count, directory.begin + directory.size - at, kDamaged));
  }
  std::ranges::sort(found, {}, &std::pair<uint64_t, ZipRecord>::first);
  check_layout(found, directory.begin);
  std::vector<ZipRecord> records;
  for (const auto& [local, record] : found) records.push_back(record);
  return records;
}

}  // namespace

std::vector<ZipRecord> read_zip(const std::filesystem::path& path, std::string_view bytes) {
  return ZipReader(path, bytes).read();
}

}  // namespace emulsion::io
