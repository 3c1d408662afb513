// What chance decides about a draw. The order of the numbers drawn from a stream is part of every
// recorded run: append, never reorder.
#include <fmt/ranges.h>

#include "core/random.h"
#include "data/captions.h"
#include "data/loader.h"

namespace emulsion::data {
namespace {

constexpr double kDarkest = 0.6;  // of a random background, per channel

// Shuffles all comma-separated parts behind the first `keep`.
std::string shuffle_tags(const std::string& caption, int64_t keep, Stream& stream) {
  std::vector<std::string> tags;
  for (size_t begin = 0; begin <= caption.size();) {
    const size_t end = std::min(caption.find(',', begin), caption.size());
    if (auto tag = trimmed(std::string_view(caption).substr(begin, end - begin)); !tag.empty()) {
      tags.push_back(std::move(tag));
    }
    begin = end + 1;
  }
  const auto kept = std::min(static_cast<size_t>(keep), tags.size());
  const auto order = stream.permutation(static_cast<int64_t>(tags.size() - kept));
  std::vector<std::string> shuffled(tags.begin(), tags.begin() + static_cast<int64_t>(kept));
  for (const int64_t place : order) shuffled.push_back(tags[kept + static_cast<size_t>(place)]);
  return fmt::format("{}", fmt::join(shuffled, ", "));
}

}  // namespace

Choices choose(const DataConfig& config, uint64_t seed, int64_t draw) {
  Stream stream = Rng(seed).stream(Purpose::augment, static_cast<uint64_t>(draw));
  Choices out;
  out.flip = stream.uniform() < config.flip;
  const double x = stream.uniform(), y = stream.uniform();
  if (config.crop == Crop::random || config.crop_size > 0) {
    out.crop_x = x;
    out.crop_y = y;
  }
  out.background = parse_colour(config.background);
  out.random_background = stream.uniform() < config.random_background;
  if (out.random_background) {
    for (auto& channel : out.background) {
      channel = static_cast<uint8_t>(255 * (kDarkest + (1 - kDarkest) * stream.uniform()) + 0.5);
    }
  }
  return out;
}

std::string choose_caption(const Sample& sample, const DataConfig& config, uint64_t seed,
                           int64_t draw) {
  Stream stream = Rng(seed).stream(Purpose::caption, static_cast<uint64_t>(draw));
  if (stream.uniform() < config.caption_dropout) return "";
  const auto choice = stream.below(static_cast<int64_t>(sample.captions.size()));
  const auto& caption = sample.captions[static_cast<size_t>(choice)];
  return config.shuffle_tags ? shuffle_tags(caption, config.keep_tags, stream) : caption;
}

}  // namespace emulsion::data
