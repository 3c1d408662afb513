#include "arguments.h"

#include <cstdio>
#include <stdexcept>

#include "core/error.h"
#include "models/prompt_parts.h"
#include "picture_file.h"

namespace emulsion::app {

namespace fs = std::filesystem;

config::Overrides parse_overrides(const std::vector<std::string>& arguments) {
  config::Overrides overrides;
  for (const std::string& text : arguments) overrides.push_back(config::parse_override(text));
  return overrides;
}

std::pair<std::string, double> file_and_weight(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == text.npos) return {text, 1};
  try {
    size_t used = 0;
    const double weight = std::stod(text.substr(colon + 1), &used);
    if (colon + 1 + used == text.size()) return {text.substr(0, colon), weight};
  } catch (const std::logic_error&) {  // no number behind the colon: it belongs to the name
  }
  return {text, 1};
}

PictureSize parse_size(const std::string& text) {
  char end = 0;
  long width = 0, height = 0;
  EMULSION_CHECK(
      std::sscanf(text.c_str(), "%ldx%ld%c", &width, &height, &end) == 2 && width > 0 && height > 0,
      config, "--size: expected WIDTHxHEIGHT, e.g. 64x64, got '{}'", text);
  return {width, height};
}

std::string slug(const std::string& prompt) {
  std::string text;
  for (const char c : prompt.substr(0, 48)) {
    const bool keep = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (keep) text += c;
    if (!keep && !text.empty() && text.back() != '-') text += '-';
  }
  while (!text.empty() && text.back() == '-') text.pop_back();
  return text.empty() ? "picture" : text;
}

fs::path output_path(const std::string& output, const generate::Request& request, size_t index) {
  const fs::path path = output;
  if (!is_picture_name(path)) {
    std::string text = request.prompts[index];
    if (request.prompt_syntax == generate::PromptSyntax::weighted) text = models::split_prompt(text).parts.front().text;
    return path / fmt::format("{}-{}.png", slug(text), request.seed + static_cast<int64_t>(index));
  }
  if (request.prompts.size() == 1) return path;
  return path.parent_path() / fmt::format("{}-{}{}", path.stem().string(), index + 1, path.extension().string());
}

fs::path grid_path(const std::string& output, const generate::Request& request) {
  const fs::path path = output;
  if (!is_picture_name(path)) return path / fmt::format("grid-{}.png", request.seed);
  return path.parent_path() / fmt::format("{}-grid{}", path.stem().string(), path.extension().string());
}

}  // namespace emulsion::app
