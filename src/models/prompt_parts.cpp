#include "models/prompt_parts.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "models/prompt_characters.h"

namespace emulsion::models {
namespace {

constexpr std::string_view kAnd = "AND";

/// Written in a prompt, and the kind that it means.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kKinds = {
    {{"lora", "lora"}, {"lyco", "lora"}, {"hypernet", "hypernet"}}};

std::string_view kind_of(std::string_view word) {
  for (const auto& [written, kind] : kKinds) {
    if (written == word) return kind;
  }
  return {};
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    const size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == text.npos) return parts;
    begin = end + 1;
  }
}

double read_strength(std::string_view text, std::string_view tag) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  EMULSION_CHECK(error == std::errc{} && end == text.data() + text.size() && std::isfinite(value), config,
                 "[prompt] '<{}>': expected a number as strength, got '{}'", tag, text);
  return value;
}

/// `tag` is what stands between the angle brackets.
NetworkTag read_tag(std::string_view tag) {
  const std::vector<std::string_view> words = split(tag, ':');
  NetworkTag network;
  network.kind = kind_of(words[0]);
  network.name = words[1];
  EMULSION_CHECK(!network.name.empty(), config, "[prompt] '<{}>': expected a name behind '{}:', got none", tag,
                 words[0]);
  std::optional<double> text, unet;
  for (size_t i = 2; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const size_t equals = word.find('=');
    const std::string_view key = equals == word.npos ? std::string_view() : word.substr(0, equals);
    EMULSION_CHECK((key.empty() && i <= 3 && equals == word.npos) || key == "te" || key == "unet", config,
                   "[prompt] '<{}>': expected up to two strengths, or te= and unet=, got '{}'", tag, word);
    const double value = read_strength(equals == word.npos ? word : word.substr(equals + 1), tag);
    (key == "te" || (key.empty() && i == 2) ? text : unet) = value;
  }
  network.text_strength = text.value_or(1);
  network.unet_strength = unet.value_or(network.text_strength);
  return network;
}

/// Whether `text`, which begins with '<', begins with a tag of a known kind.
bool begins_tag(std::string_view text) {
  const std::string_view head = text.substr(1, 16);
  const size_t colon = head.find(':');
  return colon != head.npos && !kind_of(head.substr(0, colon)).empty();
}

/// Moves the tags of `prompt` to `networks` and returns the rest.
std::string take_tags(std::string_view prompt, std::vector<NetworkTag>& networks) {
  std::string rest;
  for (size_t at = 0; at < prompt.size();) {
    const size_t begin = std::min(prompt.find('<', at), prompt.size());
    rest += prompt.substr(at, begin - at);
    at = begin;
    if (at == prompt.size()) break;
    if (!begins_tag(prompt.substr(at))) {
      rest += prompt[at++];
      continue;
    }
    const size_t end = prompt.find('>', at);
    if (end == prompt.npos) return rest += prompt.substr(at);  // never closed: text
    networks.push_back(read_tag(prompt.substr(at + 1, end - at - 1)));
    at = end + 1;
  }
  return rest;
}

/// "text : 1.2" at the end of a part; only where the part is a single line, as the web UI reads it.
PromptPart read_part(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == text.npos || text.find('\n') != text.npos) return {std::string(text), 1};
  std::string_view number = trimmed(text.substr(colon + 1));
  if (number.starts_with('+')) number.remove_prefix(1);
  if (number.empty() || number.find_first_not_of("-.0123456789") != number.npos) return {std::string(text), 1};
  double weight = 1;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), weight);
  if (error != std::errc{} || end != number.data() + number.size()) return {std::string(text), 1};
  return {std::string(text.substr(0, text.find_last_not_of(kSpaces, colon - 1) + 1)), weight};
}

}  // namespace

PromptParts split_prompt(std::string_view prompt) {
  PromptParts result;
  const std::string text = take_tags(prompt, result.networks);
  const std::string_view rest = text;
  size_t begin = 0;
  for (size_t at = 0; at < rest.size(); ++at) {
    if (!is_whole_word(rest, at, kAnd)) continue;
    result.parts.push_back(read_part(rest.substr(begin, at - begin)));
    at += kAnd.size() - 1;
    begin = at + 1;
  }
  // A single text keeps a number at its end (A1111's web UI would guide "a view, 16:9" by 9 times the scale).
  if (result.parts.empty()) {
    result.parts.push_back({text, 1});
  } else {
    result.parts.push_back(read_part(rest.substr(begin)));
  }
  return result;
}

}  // namespace emulsion::models
