#include "io/content.h"

#include <fmt/format.h>

namespace emulsion::io {
namespace {

struct Signature {
  std::string_view start;
  const char* meaning;
};

using namespace std::string_view_literals;

constexpr Signature kSignatures[] = {
    {"version https://git-lfs"sv, "a Git LFS pointer (run 'git lfs pull' to get the file itself)"},
    {"<!DOCTYPE"sv, "an HTML page"},
    {"<!doctype"sv, "an HTML page"},
    {"<html"sv, "an HTML page"},
    {"<HTML"sv, "an HTML page"},
    {"<?xml"sv, "an XML or SVG file"},
    {"<svg"sv, "an SVG drawing"},
    {"PK\x03\x04"sv, "a ZIP archive or PyTorch checkpoint"},
    {"\x80\x02"sv, "a Python pickle or old PyTorch checkpoint"},
    {"\x80\x03"sv, "a Python pickle"},
    {"\x80\x04"sv, "a Python pickle"},
    {"\x80\x05"sv, "a Python pickle"},
    {"\x1f\x8b"sv, "a gzip archive"},
    {"7z\xbc\xaf"sv, "a 7-Zip archive"},
    {"Rar!"sv, "a RAR archive"},
    {"%PDF"sv, "a PDF document"},
    {"8BPS"sv, "a Photoshop file"},
    {"GGUF"sv, "a GGUF model"},
    {"\x7f"
     "ELF"sv,
     "a program"},
    {"\x89PNG\r\n\x1a\n"sv, "a PNG picture"},
    {"\xff\xd8\xff"sv, "a JPEG picture"},
    {"GIF8"sv, "a GIF picture"},
    {"\0\0\0\0\0\0\0\0"sv, "a file of zero bytes"},
};

bool is_text(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x80 || (byte >= 0x20 && byte != 0x7f) || c == '\n' || c == '\r' || c == '\t';
  });
}

}  // namespace

size_t utf8_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = lead < 0x80                   ? 1
                        : lead >= 0xc2 && lead < 0xe0 ? 2
                        : (lead & 0xf0) == 0xe0       ? 3
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                                                      : 0;
  if (length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  }
  return length;
}

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (out.size() >= limit) return out + "...";
    const size_t length = utf8_length(text.substr(i));
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool shown = length > 0 && byte >= 0x20 && byte != 0x7f;
    out += shown ? std::string(text.substr(i, length)) : "?";
    i += std::max<size_t>(length, 1);
  }
  return out;
}

std::string describe_content(std::string_view first_bytes) {
  if (first_bytes.empty()) return "nothing";
  const size_t begin = std::min(first_bytes.find_first_not_of(" \t\r\n"), first_bytes.size());
  for (const Signature& signature : kSignatures) {
    if (first_bytes.starts_with(signature.start)) return signature.meaning;
    if (first_bytes.substr(begin).starts_with(signature.start)) return signature.meaning;
  }
  if (is_text(first_bytes)) return fmt::format("text: \"{}\"", printable(first_bytes, 24));
  std::string hex;
  for (const char c : first_bytes.substr(0, 8)) {
    hex += fmt::format("{}{:02x}", hex.empty() ? "" : " ", static_cast<unsigned char>(c));
  }
  return fmt::format("unknown data ({})", hex);
}

}  // namespace emulsion::io
