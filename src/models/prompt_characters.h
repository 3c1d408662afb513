// Characters and words of prompts. Internal to the prompt readers.
#pragma once

#include <string_view>

namespace emulsion::models {

inline constexpr std::string_view kSpaces = " \t\n\v\f\r";

inline bool is_space(char c) { return kSpaces.find(c) != kSpaces.npos; }

/// Letters, digits, '_', and everything beyond ASCII.
inline bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

/// Whether `word` stands at `at`, and is not part of a longer word.
inline bool is_whole_word(std::string_view text, size_t at, std::string_view word) {
  return text.substr(at, word.size()) == word && (at == 0 || !is_word(text[at - 1])) &&
         (at + word.size() >= text.size() || !is_word(text[at + word.size()]));
}

inline std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) - begin + 1);
}

}  // namespace emulsion::models
