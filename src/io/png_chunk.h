// Internal to io: the chunks a PNG is made of (PNG specification, third edition, sections 5 and
// 11).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace emulsion::io {

inline constexpr std::string_view kPngMark = "\x89PNG\r\n\x1a\n";

/// Four bytes, most significant first.
std::string png_number(uint32_t value);
uint32_t read_png_number(std::string_view bytes);

/// Length, type, data and checksum.
std::string png_chunk(std::string_view type, std::string_view data);
uint32_t png_checksum(std::string_view type_and_data);

/// tEXt, or iTXt if `text` (UTF-8) goes beyond Latin-1. Throws: Error{format}.
std::string png_text_chunk(const std::string& keyword, const std::string& text);

}  // namespace emulsion::io
