// Ranks, alphas and learning rates by the U-Net's blocks, as sd-scripts' network_args have them.
#include <algorithm>
#include <optional>

#include "adapters/blocks.h"
#include "train/import_carrier.h"

namespace emulsion::train {
namespace {

/// What of a block networks.lora trains.
struct Block {
  std::vector<std::string> transformers;  // always
  std::vector<std::string> convolutions;  // only with conv_dim
};

/// The blocks in the order of sd-scripts' lists: 12 + 1 + 12, or of SDXL 9 + 3 + 9 (its lists have one more at either end, which
/// nothing trains). Source: get_block_index of its networks/lora.py.
std::vector<Block> blocks_of(bool xl) {
  const int64_t count = xl ? 9 : 12;
  const auto block = [&](bool up, int64_t n) {
    const int64_t level = up ? n / 3 : (n - 1) / 3;
    const bool attention = up ? (xl ? level <= 1 : level >= 1) : (xl ? level >= 1 : level <= 2);
    Block result;
    for (const std::string& pattern : adapters::block_patterns(fmt::format("{}{:02}", up ? "OUT" : "IN", n))) {
      const bool transformer = pattern.find(".attentions.") != pattern.npos;
      if (transformer && attention) result.transformers.push_back(pattern);
      if (!transformer && pattern != "unet.conv_in") result.convolutions.push_back(pattern);
    }
    return result;
  };
  std::vector<Block> blocks;
  for (int64_t n = 0; n < count; ++n) blocks.push_back(block(/*up=*/false, n));
  if (xl) {
    blocks.push_back({{}, {"unet.mid_block.resnets.0.*"}});
    blocks.push_back({{"unet.mid_block.attentions.0.*"}, {}});
    blocks.push_back({{}, {"unet.mid_block.resnets.1.*"}});
  } else {
    blocks.push_back({{"unet.mid_block.attentions.0.*"}, {"unet.mid_block.resnets.*"}});
  }
  for (int64_t n = 0; n < count; ++n) blocks.push_back(block(/*up=*/true, n));
  return blocks;
}

std::vector<double> numbers_of(const std::string& list) {
  std::vector<double> numbers;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    numbers.push_back(begin == end ? 0 : number_of(list.substr(begin, end - begin)));
    begin = end + 1;
  }
  return numbers;
}

/// Such a list without the ends that SDXL's have; nothing if it fits neither family.
std::optional<std::vector<double>> by_block(const std::string& list) {
  std::vector<double> numbers = numbers_of(list);
  if (numbers.size() == 25) return numbers;
  if (numbers.size() != 23) return std::nullopt;
  return std::vector<double>(numbers.begin() + 1, numbers.end() - 1);
}

/// down, mid and up together; 1 where one is not given. Nothing if they fit neither family.
std::optional<std::vector<double>> rates_by_block(const std::map<std::string, std::string>& given) {
  const auto part = [&](const char* name) {
    const auto found = given.find(name);
    return found == given.end() ? std::vector<double>() : numbers_of(found->second);
  };
  std::vector<double> down = part("down_lr_weight"), mid = part("mid_lr_weight"), up = part("up_lr_weight");
  const size_t longest = std::max(down.size(), up.size());
  if (longest != 12 && longest != 9) return std::nullopt;
  down.resize(longest, 1);
  mid.resize(longest == 12 ? 1 : 3, 1);
  up.resize(longest, 1);
  down.insert(down.end(), mid.begin(), mid.end());
  down.insert(down.end(), up.begin(), up.end());
  return down;
}

bool is_number_list(const std::string& text) { return text.find_first_not_of("0123456789.,eE+- ") == text.npos; }

}  // namespace

void carry_blocks(Carrier& carrier, std::map<std::string, std::string>& arguments, LoraMethod& lora) {
  std::map<std::string, std::string> given;
  for (const char* name : {"block_dims", "block_alphas", "down_lr_weight", "mid_lr_weight", "up_lr_weight"}) {
    if (auto node = arguments.extract(name); !node.empty()) given.insert(std::move(node));
  }
  if (given.empty()) return;
  const auto leave = [&](const std::string& reason) {
    for (const auto& [name, value] : given) carrier.leave(fmt::format("network_args {}={}", name, value), reason);
  };
  for (const auto& [name, value] : given) {
    if (!is_number_list(value)) return leave("a shape by name; write its numbers out");
  }
  const bool with_rates = given.contains("down_lr_weight") || given.contains("mid_lr_weight") || given.contains("up_lr_weight");
  std::optional<std::vector<double>> ranks, alphas, rates;
  if (given.contains("block_dims")) ranks = by_block(given["block_dims"]);
  if (given.contains("block_alphas")) alphas = by_block(given["block_alphas"]);
  if (with_rates) rates = rates_by_block(given);
  const size_t count = ranks ? ranks->size() : alphas ? alphas->size() : rates ? rates->size() : 0;
  const bool fits = (!given.contains("block_dims") || (ranks && ranks->size() == count)) &&
                    (!given.contains("block_alphas") || (alphas && alphas->size() == count)) &&
                    (!with_rates || (rates && rates->size() == count)) && count > 0;
  if (!fits) return leave("expected 25 values (23 for SDXL), or 12 for down and up (9) and 1 for mid (3)");

  const std::vector<Block> blocks = blocks_of(/*xl=*/count == 21);
  const auto add = [&](const std::vector<std::string>& patterns, int64_t rank, double alpha, double rate, bool off) {
    for (const std::string& pattern : patterns) {
      if (off) lora.targets.push_back("!" + pattern);
      else lora.layers.push_back({.pattern = pattern, .rank = rank, .alpha = alpha, .lr = rate});
    }
  };
  for (size_t i = 0; i < count; ++i) {
    const double rank = ranks ? (*ranks)[i] : 0, alpha = alphas ? (*alphas)[i] : 0, rate = rates ? (*rates)[i] : 1;
    add(blocks[i].transformers, static_cast<int64_t>(rank), alpha, rate, rate == 0 || (ranks && rank == 0));
    if (lora.conv_rank > 0 && rate != 1) add(blocks[i].convolutions, 0, 0, rate, rate == 0);  // ranks: conv_dim's
  }
}

}  // namespace emulsion::train
