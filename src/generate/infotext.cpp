#include "generate/infotext.h"

#include <nlohmann/json.hpp>

#include "models/prompt_characters.h"

namespace emulsion::generate {
namespace {

using models::is_space;
using models::is_word;
using models::trimmed;

constexpr std::string_view kNegative = "Negative prompt:";
constexpr size_t kFewestSettings = 3;

std::string quoted(const std::string& value) {
  if (value.find_first_of(",:\n\"") == value.npos) return value;
  return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string unquoted(std::string_view value) {
  if (value.size() < 2 || value.front() != '"' || value.back() != '"') return std::string(value);
  const auto text = nlohmann::json::parse(value, nullptr, /*allow_exceptions=*/false);
  return text.is_string() ? text.get<std::string>() : std::string(value);
}

/// Behind the JSON string that begins at `at`; npos if it does not end.
size_t end_of_string(std::string_view line, size_t at) {
  for (size_t i = at + 1; i < line.size(); ++i) {
    if (line[i] == '\\') {
      ++i;
    } else if (line[i] == '"') {
      return i + 1;
    }
  }
  return line.npos;
}

bool is_name(char c) { return is_word(c) || c == ' ' || c == '-' || c == '/'; }

/// "Name: value, Name: "quoted, value"".
std::vector<std::pair<std::string, std::string>> read_settings(std::string_view line) {
  std::vector<std::pair<std::string, std::string>> settings;
  const auto skip_spaces = [&](size_t at) {
    while (at < line.size() && is_space(line[at])) ++at;
    return at;
  };
  // Once a string has not ended, no later one does: without this a line of quotation marks takes quadratic time.
  bool strings_end = true;
  for (size_t at = 0; at < line.size();) {
    if (!is_word(line[at])) {
      ++at;
      continue;
    }
    size_t colon = at;
    while (colon < line.size() && is_name(line[colon])) ++colon;
    if (colon == line.size() || line[colon] != ':' || colon - at < 2) {
      at = colon + 1;
      continue;
    }
    const size_t begin = skip_spaces(colon + 1);
    size_t end = line.npos;
    if (strings_end && begin < line.size() && line[begin] == '"') {
      end = end_of_string(line, begin);
      strings_end = end != line.npos;
      if (end < line.size() && line[end] != ',') end = line.npos;
    }
    if (end == line.npos) end = std::min(line.find(',', begin), line.size());
    settings.emplace_back(line.substr(at, colon - at), unquoted(line.substr(begin, end - begin)));
    at = end + 1;
  }
  return settings;
}

void add_line(std::string& text, std::string_view line) {
  if (!text.empty()) text += '\n';
  text += line;
}

}  // namespace

const std::string* Infotext::find(std::string_view name) const {
  for (const auto& [key, value] : settings) {
    if (key == name) return &value;
  }
  return nullptr;
}

std::string to_text(const Infotext& infotext) {
  std::string text = infotext.prompt;
  if (!infotext.negative.empty()) text += "\n" + std::string(kNegative) + " " + infotext.negative;
  const char* separator = "\n";
  for (const auto& [name, value] : infotext.settings) {
    text += separator + name + ": " + quoted(value);
    separator = ", ";
  }
  return text;
}

Infotext parse_infotext(std::string_view text) {
  Infotext infotext;
  std::string_view rest = trimmed(text);
  const size_t last = rest.rfind('\n');
  const std::string_view last_line = last == rest.npos ? rest : rest.substr(last + 1);
  infotext.settings = read_settings(last_line);
  if (infotext.settings.size() >= kFewestSettings) {
    rest = last == rest.npos ? std::string_view() : rest.substr(0, last);
  } else {
    infotext.settings.clear();
  }
  bool in_negative = false;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.starts_with(kNegative)) {
      in_negative = true;
      line = trimmed(line.substr(kNegative.size()));
    }
    add_line(in_negative ? infotext.negative : infotext.prompt, line);
  }
  return infotext;
}

}  // namespace emulsion::generate
