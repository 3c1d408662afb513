#include "models/text_pieces.h"

#include <utf8proc.h>

#include <array>
#include <cstdlib>

#include "core/error.h"

namespace emulsion::models {
namespace {

enum class Kind { letter, number, space, other };

bool is_white_space(int32_t c) {
  // The White_Space property (Unicode 15, PropList.txt).
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

Kind kind_of(int32_t c) {
  if (is_white_space(c)) return Kind::space;
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return Kind::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return Kind::number;
    default:
      return Kind::other;
  }
}

const utf8proc_uint8_t* bytes_of(std::string_view text) {
  return reinterpret_cast<const utf8proc_uint8_t*>(text.data());
}

std::string compose(std::string_view text) {
  if (text.empty()) return {};
  utf8proc_uint8_t* out = nullptr;
  const auto length =
      utf8proc_map(bytes_of(text), static_cast<utf8proc_ssize_t>(text.size()), &out,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  EMULSION_CHECK(length >= 0, format, "[text] cannot be normalised: {}", utf8proc_errmsg(length));
  std::string result(reinterpret_cast<const char*>(out), static_cast<size_t>(length));
  std::free(out);
  return result;
}

struct Char {
  int32_t code;
  Kind kind;
};

std::vector<Char> lower_chars(std::string_view text) {
  std::vector<Char> chars;
  chars.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    int32_t code = 0;
    i += static_cast<size_t>(utf8proc_iterate(
        bytes_of(text) + i, static_cast<utf8proc_ssize_t>(text.size() - i), &code));
    const int32_t lower = utf8proc_tolower(code);
    chars.push_back({lower, kind_of(lower)});
    // U+0130 is the only character whose full lower case is two characters (SpecialCasing.txt).
    if (code == 0x130) {
      chars.back() = {'i', Kind::letter};
      chars.push_back({0x307, Kind::other});
    }
  }
  return chars;
}

bool starts_with(const std::vector<Char>& chars, size_t at, std::string_view ascii) {
  if (at + ascii.size() > chars.size()) return false;
  for (size_t i = 0; i < ascii.size(); ++i) {
    if (chars[at + i].code != ascii[i]) return false;
  }
  return true;
}

// The lengths of the pieces at `at`; several when a special token's spelling is split further.
std::vector<size_t> match(const std::vector<Char>& chars, size_t at) {
  // The byte-level step splits these spellings into punctuation, word, punctuation.
  if (starts_with(chars, at, "<|startoftext|>")) return {2, 11, 2};
  if (starts_with(chars, at, "<|endoftext|>")) return {2, 9, 2};
  static constexpr std::array<std::string_view, 7> kContractions = {"'s", "'t",  "'re", "'ve",
                                                                    "'m", "'ll", "'d"};
  for (const auto contraction : kContractions) {
    if (starts_with(chars, at, contraction)) return {contraction.size()};
  }
  const Kind kind = chars[at].kind;
  if (kind == Kind::number) return {1};
  size_t end = at + 1;
  while (end < chars.size() && chars[end].kind == kind) ++end;
  return {end - at};
}

std::string to_utf8(const std::vector<Char>& chars, size_t begin, size_t length) {
  std::string out;
  for (size_t i = begin; i < begin + length; ++i) {
    utf8proc_uint8_t bytes[4];
    const auto count = utf8proc_encode_char(chars[i].code, bytes);
    out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
  }
  return out;
}

}  // namespace

std::optional<size_t> first_invalid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    int32_t code = 0;
    const auto used =
        utf8proc_iterate(bytes_of(text) + i, static_cast<utf8proc_ssize_t>(text.size() - i), &code);
    if (used <= 0) return i;
    i += static_cast<size_t>(used);
  }
  return std::nullopt;
}

std::vector<std::string> clip_pieces(std::string_view text) {
  const auto chars = lower_chars(compose(text));
  std::vector<std::string> pieces;
  for (size_t i = 0; i < chars.size();) {
    if (chars[i].kind == Kind::space) {
      ++i;
      continue;
    }
    for (const size_t length : match(chars, i)) {
      pieces.push_back(to_utf8(chars, i, length));
      i += length;
    }
  }
  return pieces;
}

}  // namespace emulsion::models
