#include "generate/networks.h"

#include "core/error.h"
#include "weights/adapter_file.h"

namespace emulsion::generate {

std::vector<models::NetworkTag> networks_of(const std::string& prompt) { return models::split_prompt(prompt).networks; }

Networks::Loaded& Networks::load(const models::NetworkTag& tag) {
  EMULSION_CHECK(tag.kind == "lora", unsupported, "[prompt] '<{}:{}>': expected <lora:NAME>; other networks are not built",
                 tag.kind, tag.name);
  const std::filesystem::path file = files_.find(tag.name, "LoRA", "--lora-dir");
  const auto [place, is_new] = loaded_.try_emplace(file);
  if (!is_new) return place->second;
  try {
    adapters::AdapterSet all = weights::load_adapter(file, model_);
    for (adapters::AdapterSet::Bound& bound : all.bound()) {
      (bound.path.starts_with("text_encoder") ? place->second.text : place->second.unet).add(std::move(bound));
    }
  } catch (...) {
    loaded_.erase(place);
    throw;
  }
  return place->second;
}

std::unique_ptr<adapters::ActiveAdapters> Networks::activate(const std::vector<models::NetworkTag>& tags) {
  std::map<Loaded*, models::NetworkTag> sums;
  for (const models::NetworkTag& tag : tags) {
    const auto [place, is_new] = sums.try_emplace(&load(tag), tag);
    if (is_new) continue;
    place->second.text_strength += tag.text_strength;
    place->second.unet_strength += tag.unet_strength;
  }
  std::vector<adapters::ActiveAdapters::Entry> entries;
  for (auto& [loaded, tag] : sums) {
    entries.push_back({&loaded->text, tag.text_strength});
    entries.push_back({&loaded->unet, tag.unet_strength});
  }
  return std::make_unique<adapters::ActiveAdapters>(std::move(entries));
}

}  // namespace emulsion::generate
