#include "adapters/blocks.h"

#include <fmt/format.h>

#include <cctype>
#include <cstdint>

namespace emulsion::adapters {
namespace {

/// The number behind a block's letters, or -1.
int64_t number_after(std::string_view name, std::string_view letters) {
  if (!name.starts_with(letters) || name.size() != letters.size() + 2) return -1;
  const char tens = name[letters.size()], ones = name[letters.size() + 1];
  if (!std::isdigit(static_cast<unsigned char>(tens)) || !std::isdigit(static_cast<unsigned char>(ones))) return -1;
  return 10 * (tens - '0') + (ones - '0');
}

std::vector<std::string> layer(const char* side, int64_t level, int64_t index) {
  return {fmt::format("unet.{}_blocks.{}.resnets.{}.*", side, level, index),
          fmt::format("unet.{}_blocks.{}.attentions.{}.*", side, level, index)};
}

}  // namespace

std::vector<std::string> block_patterns(std::string_view name) {
  if (name == "M00") return {"unet.mid_block.*"};
  if (name == "IN00") return {"unet.conv_in"};
  if (const int64_t n = number_after(name, "IN"); n > 0) {
    if (n % 3 == 0) return {fmt::format("unet.down_blocks.{}.downsamplers.*", n / 3 - 1)};
    return layer("down", (n - 1) / 3, (n - 1) % 3);
  }
  if (const int64_t n = number_after(name, "OUT"); n >= 0) {
    std::vector<std::string> patterns = layer("up", n / 3, n % 3);
    if (n % 3 == 2) patterns.push_back(fmt::format("unet.up_blocks.{}.upsamplers.*", n / 3));
    return patterns;
  }
  return {};
}

}  // namespace emulsion::adapters
