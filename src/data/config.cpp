#include "data/config.h"

#include <fmt/ranges.h>

#include "core/error.h"

namespace emulsion::data {

std::array<uint8_t, 3> parse_colour(const std::string& text) {
  const bool valid = text.size() == 7 && text[0] == '#' &&
                     text.find_first_not_of("0123456789abcdefABCDEF", 1) == std::string::npos;
  EMULSION_CHECK(valid, config, "[data.background] expected #rrggbb, got \"{}\"; white is #ffffff",
                 text);
  const auto value = std::stoul(text.substr(1), nullptr, 16);
  return {static_cast<uint8_t>(value >> 16), static_cast<uint8_t>(value >> 8 & 255),
          static_cast<uint8_t>(value & 255)};
}

bool pictures_are_fixed(const DataConfig& config) {
  return config.crop == Crop::center && config.crop_size == 0 && config.random_background == 0;
}

bool captions_are_fixed(const DataConfig& config) {
  return !config.shuffle_tags && config.tag_dropout == 0;
}

void validate(const DataConfig& config) {
  std::vector<std::string> problems;
  if (config.bucket_min > 0 && config.bucket_max > 0 && config.bucket_min > config.bucket_max) {
    problems.push_back(fmt::format("[data.bucket_min] expected at most bucket_max = {}, got {}",
                                   config.bucket_max, config.bucket_min));
  }
  if (config.bucket_step > config.resolution) {
    problems.push_back(fmt::format("[data.bucket_step] expected at most the resolution, {}, got {}",
                                   config.resolution, config.bucket_step));
  }
  if (config.crop_size > config.resolution) {
    problems.push_back(fmt::format("[data.crop_size] expected at most the resolution, {}, got {}",
                                   config.resolution, config.crop_size));
  }
  if (config.crop_size > 0 && config.crop == Crop::center) {
    problems.push_back("[data.crop] expected \"random\" beside crop_size, got \"center\"");
  }
  try {
    parse_colour(config.background);
  } catch (const Error& error) {
    problems.push_back(error.what());
  }
  if (config.sources.empty()) {
    problems.push_back(
        "[data.sources] expected at least one source, got none; add [[data.sources]] "
        "with path = \"<folder of pictures>\"");
  }
  EMULSION_CHECK(problems.empty(), config, "{}", fmt::join(problems, "\n"));
}

}  // namespace emulsion::data
