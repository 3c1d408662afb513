#include "io/png_chunk.h"

#include <zlib.h>

#include "core/error.h"
#include "io/content.h"

namespace emulsion::io {
namespace {

// UTF-8 -> Latin-1, or nothing if a character is beyond it. Throws: Error{format} if it is not
// UTF-8.
std::optional<std::string> to_latin1(const std::string& keyword, const std::string& text) {
  std::string out;
  bool fits = true;
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(std::string_view(text).substr(i));
    EMULSION_CHECK(length > 0 && text[i] != '\0', format,
                   "[png] expected UTF-8 without zero bytes in text '{}', got byte 0x{:02x} at {}",
                   printable(keyword), static_cast<unsigned char>(text[i]), i);
    const auto lead = static_cast<unsigned char>(text[i]);
    fits &= length == 1 || (length == 2 && lead <= 0xc3);
    if (fits)
      out += length == 1 ? text[i] : static_cast<char>((lead & 3) << 6 | (text[i + 1] & 0x3f));
    i += length;
  }
  return fits ? std::optional(out) : std::nullopt;
}

std::string checked_keyword(const std::string& keyword) {
  const std::optional<std::string> latin = to_latin1(keyword, keyword);
  const bool valid = latin && !latin->empty() && latin->size() <= 79 && latin->front() != ' ' &&
                     latin->back() != ' ' && latin->find("  ") == std::string::npos &&
                     std::ranges::all_of(
                         *latin, [](unsigned char c) { return (c >= 32 && c <= 126) || c >= 161; });
  EMULSION_CHECK(valid, format,
                 "[png] expected a text keyword of 1 to 79 Latin-1 characters without outer or "
                 "double spaces, got "
                 "'{}'",
                 printable(keyword));
  return *latin;
}

}  // namespace

std::string png_number(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
          static_cast<char>(value >> 8), static_cast<char>(value)};
}

uint32_t read_png_number(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

uint32_t png_checksum(std::string_view type_and_data) {
  return static_cast<uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(type_and_data.data()), type_and_data.size()));
}

std::string png_chunk(std::string_view type, std::string_view data) {
  std::string body(type);
  body += data;
  return png_number(static_cast<uint32_t>(data.size())) + body + png_number(png_checksum(body));
}

std::string png_text_chunk(const std::string& keyword, const std::string& text) {
  const std::string key = checked_keyword(keyword) + '\0';
  if (const std::optional<std::string> latin = to_latin1(keyword, text)) {
    return png_chunk("tEXt", key + *latin);
  }
  // Not compressed, no language, no translated keyword.
  return png_chunk("iTXt", key + std::string(4, '\0') + text);
}

}  // namespace emulsion::io
