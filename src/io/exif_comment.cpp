#include "io/exif_comment.h"

#include <algorithm>
#include <cstdint>

#include "io/content.h"

namespace emulsion::io {
namespace {

using namespace std::string_view_literals;

constexpr uint16_t kExifFolder = 0x8769, kUserComment = 0x9286;
constexpr uint16_t kLong = 4, kUndefined = 7;
constexpr std::string_view kUnicode = "UNICODE\0"sv, kAscii = "ASCII\0\0\0"sv, kUnsaid = "\0\0\0\0\0\0\0\0"sv;
constexpr std::string_view kLead = "Exif\0\0"sv;
constexpr char32_t kReplacement = 0xfffd;

void put16(std::string& out, uint32_t value) {
  out += static_cast<char>(value >> 8);
  out += static_cast<char>(value);
}
void put32(std::string& out, uint32_t value) {
  put16(out, value >> 16);
  put16(out, value & 0xffff);
}

/// The character that `text` begins with, and its bytes.
std::pair<char32_t, size_t> first_character(std::string_view text) {
  const size_t length = utf8_length(text);
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (length == 0) return {kReplacement, 1};
  if (length == 1) return {byte(0), 1};
  char32_t value = byte(0) & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) value = value << 6 | (byte(i) & 0x3f);
  return {value, length};
}

std::string to_utf16(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto [value, length] = first_character(text);
    text.remove_prefix(length);
    if (value < 0x10000) {
      put16(out, value);
    } else {
      put16(out, 0xd800 + ((value - 0x10000) >> 10));
      put16(out, 0xdc00 + ((value - 0x10000) & 0x3ff));
    }
  }
  return out;
}

void put_utf8(std::string& out, char32_t value) {
  if (value < 0x80) {
    out += static_cast<char>(value);
    return;
  }
  const int more = value < 0x800 ? 1 : value < 0x10000 ? 2 : 3;
  out += static_cast<char>((0xf0 << (3 - more) & 0xff) | value >> 6 * more);
  for (int i = more; i-- > 0;) out += static_cast<char>(0x80 | (value >> 6 * i & 0x3f));
}

/// Numbers of a TIFF structure in its byte order. Reading outside gives 0.
class Reader {
 public:
  Reader(std::string_view bytes, bool big) : bytes_(bytes), big_(big) {}

  uint32_t number(size_t at, size_t size) const {
    if (at > bytes_.size() || bytes_.size() - at < size) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < size; ++i) {
      value = value << 8 | static_cast<unsigned char>(bytes_[at + (big_ ? i : size - 1 - i)]);
    }
    return value;
  }

  /// Where the entry of `tag` stands in the folder at `folder`.
  std::optional<size_t> entry(size_t folder, uint16_t tag) const {
    const uint32_t count = number(folder, 2);
    for (uint32_t i = 0; i < count; ++i) {
      const size_t at = folder + 2 + size_t{12} * i;
      if (at + 12 > bytes_.size()) return std::nullopt;
      if (number(at, 2) == tag) return at;
    }
    return std::nullopt;
  }

 private:
  std::string_view bytes_;
  bool big_;
};

/// The byte order is not said; text has more characters below U+0100 than of a multiple of U+0100.
bool is_big_endian(std::string_view bytes) {
  int64_t score = 0;
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) score += (bytes[i] == 0) - (bytes[i + 1] == 0);
  return score >= 0;
}

std::string from_utf16(std::string_view bytes) {
  bool big = is_big_endian(bytes);
  if (bytes.starts_with("\xfe\xff"sv) || bytes.starts_with("\xff\xfe"sv)) {
    big = bytes[0] == '\xfe';
    bytes.remove_prefix(2);
  }
  const Reader reader(bytes, big);
  std::string out;
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
    char32_t value = reader.number(i, 2);
    const char32_t next = reader.number(i + 2, 2);
    if (value >= 0xd800 && value < 0xdc00 && next >= 0xdc00 && next < 0xe000) {
      value = 0x10000 + ((value - 0xd800) << 10) + (next - 0xdc00);
      i += 2;
    } else if (value >= 0xd800 && value < 0xe000) {
      value = kReplacement;
    }
    put_utf8(out, value);
  }
  return out;
}

std::string clean_utf8(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto [value, length] = first_character(text);
    put_utf8(out, value);
    text.remove_prefix(length);
  }
  return out;
}

std::string decode(std::string_view comment) {
  const std::string_view code = comment.substr(0, 8);
  if (code == kUnicode) return from_utf16(comment.substr(8));
  if (code == kAscii || code == kUnsaid) comment.remove_prefix(8);
  while (comment.ends_with('\0')) comment.remove_suffix(1);
  return clean_utf8(comment);
}

}  // namespace

std::string exif_with_comment(std::string_view text) {
  const std::string comment = std::string(kUnicode) + to_utf16(text);
  std::string out = "MM";
  put16(out, 42);
  put32(out, 8);
  put16(out, 1);  // the main folder: one entry, the EXIF folder behind it at 26
  put16(out, kExifFolder);
  put16(out, kLong);
  put32(out, 1);
  put32(out, 26);
  put32(out, 0);
  put16(out, 1);  // the EXIF folder: one entry, its data behind it at 44
  put16(out, kUserComment);
  put16(out, kUndefined);
  put32(out, static_cast<uint32_t>(comment.size()));
  put32(out, 44);
  put32(out, 0);
  return out + comment;
}

std::optional<std::string> comment_of_exif(std::string_view exif) {
  if (exif.starts_with(kLead)) exif.remove_prefix(kLead.size());
  const bool big = exif.starts_with("MM");
  if (!big && !exif.starts_with("II")) return std::nullopt;
  const Reader reader(exif, big);
  const auto pointer = reader.entry(reader.number(4, 4), kExifFolder);
  if (!pointer) return std::nullopt;
  const auto entry = reader.entry(reader.number(*pointer + 8, 4), kUserComment);
  if (!entry) return std::nullopt;
  const size_t size = reader.number(*entry + 4, 4), at = reader.number(*entry + 8, 4);
  if (at > exif.size() || size > exif.size() - at || size < 8) return std::nullopt;
  return decode(exif.substr(at, size));
}

}  // namespace emulsion::io
