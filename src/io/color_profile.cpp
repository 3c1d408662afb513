#include "io/color_profile.h"

#include <cstdint>

namespace emulsion::io {
namespace {

constexpr size_t kHeader = 128, kTag = 12, kMaxTags = 100;

// libjxl's name for sRGB with relative rendering.
constexpr std::string_view kSrgbNames[] = {"sRGB", "RGB_D65_SRG_"};

// Big-endian; 0 beyond the end.
uint64_t number(std::string_view bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < 4 && at + 4 <= bytes.size(); ++i) {
    value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  }
  return value;
}

std::string_view part(std::string_view bytes, uint64_t begin, uint64_t size) {
  return begin > bytes.size() ? std::string_view() : bytes.substr(begin, size);
}

// Every second byte of UTF-16.
std::string narrowed(std::string_view utf16) {
  std::string text;
  for (size_t i = 1; i < utf16.size(); i += 2) text += utf16[i - 1] == 0 ? utf16[i] : '?';
  return text;
}

}  // namespace

std::string color_profile_name(std::string_view icc) {
  const uint64_t count = std::min<uint64_t>(number(icc, kHeader), kMaxTags);
  for (size_t i = 0; i < count; ++i) {
    const size_t entry = kHeader + 4 + i * kTag;
    if (part(icc, entry, 4) != "desc") continue;
    const std::string_view tag = part(icc, number(icc, entry + 4), number(icc, entry + 8));
    if (tag.starts_with("desc")) return std::string(part(tag, 12, number(tag, 8)));
    if (tag.starts_with("mluc")) return narrowed(part(tag, number(tag, 24), number(tag, 20)));
  }
  return "";
}

bool is_srgb_profile(std::string_view icc) {
  const std::string name = color_profile_name(icc);
  return std::ranges::any_of(kSrgbNames,
                             [&](std::string_view srgb) { return name.starts_with(srgb); });
}

}  // namespace emulsion::io
