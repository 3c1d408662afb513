// What chance decides about a draw. The order of the numbers drawn from a stream is part of every
// recorded run: append, never reorder.
#include <fmt/ranges.h>

#include <numeric>

#include "core/random.h"
#include "data/captions.h"
#include "data/loader.h"

namespace emulsion::data {
namespace {

constexpr double kDarkest = 0.6;  // of a random background, per channel

std::vector<std::string> tags_of(std::string_view caption) {
  std::vector<std::string> tags;
  for (size_t begin = 0; begin <= caption.size();) {
    const size_t end = std::min(caption.find(',', begin), caption.size());
    if (auto tag = trimmed(caption.substr(begin, end - begin)); !tag.empty()) {
      tags.push_back(std::move(tag));
    }
    begin = end + 1;
  }
  return tags;
}

// Shuffles the comma-separated parts behind those that are kept, then leaves some of them out.
std::string vary_tags(const std::string& caption, const DataConfig& config, Stream& stream) {
  const auto tags = tags_of(caption);
  const auto kept = std::min(static_cast<size_t>(config.keep_tags), tags.size());
  std::vector<int64_t> order(tags.size() - kept);
  std::iota(order.begin(), order.end(), 0);
  if (config.shuffle_tags) order = stream.permutation(static_cast<int64_t>(order.size()));
  std::vector<std::string> varied(tags.begin(), tags.begin() + static_cast<int64_t>(kept));
  for (const int64_t place : order) {
    if (config.tag_dropout > 0 && stream.uniform() < config.tag_dropout) continue;
    varied.push_back(tags[kept + static_cast<size_t>(place)]);
  }
  return fmt::format("{}", fmt::join(varied, ", "));
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
  out.unmasked = stream.uniform() < config.unmasked_probability;
  return out;
}

std::string choose_caption(const Sample& sample, const DataConfig& config, uint64_t seed,
                           int64_t draw) {
  Stream stream = Rng(seed).stream(Purpose::caption, static_cast<uint64_t>(draw));
  if (stream.uniform() < config.caption_dropout) return "";
  const auto choice = stream.below(static_cast<int64_t>(sample.captions.size()));
  const auto& caption = sample.captions[static_cast<size_t>(choice)];
  return captions_are_fixed(config) ? caption : vary_tags(caption, config, stream);
}

}  // namespace emulsion::data
