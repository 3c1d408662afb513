#include "generate/networks.h"

#include "core/error.h"
#include "weights/adapter_file.h"
#include "weights/hypernetwork_file.h"

namespace emulsion::generate {
namespace {

constexpr const char* kLora = "lora";
constexpr const char* kHypernetwork = "hypernet";

/// The strengths of a file, of all tags that call it.
struct Called {
  bool lora = true;
  double text = 0, unet = 0;
};

}  // namespace

std::vector<models::NetworkTag> networks_of(const std::string& prompt) { return models::split_prompt(prompt).networks; }

std::filesystem::path NetworkFiles::find(const models::NetworkTag& tag) const {
  if (tag.kind == kLora) return loras.find(tag.name, "LoRA", "--lora-dir");
  if (tag.kind == kHypernetwork) return hypernetworks.find(tag.name, "hypernetwork", "--hypernetwork-dir");
  throw Error(
      ErrorCode::unsupported,
      fmt::format("[prompt] '<{}:{}>': expected <lora:NAME> or <hypernet:NAME>; other networks are not built", tag.kind, tag.name));
}

Networks::Lora& Networks::lora(const std::filesystem::path& file) {
  const auto known = loras_.find(file);
  if (known != loras_.end()) return known->second;
  adapters::AdapterSet all = weights::load_adapter(file, model_);
  Lora split;
  for (adapters::AdapterSet::Bound& bound : all.bound()) {
    (bound.path.starts_with("text_encoder") ? split.text : split.unet).add(std::move(bound));
  }
  return loras_.emplace(file, std::move(split)).first->second;
}

adapters::Hypernetwork& Networks::hypernetwork(const std::filesystem::path& file) {
  const auto known = hypernetworks_.find(file);
  return known != hypernetworks_.end() ? known->second
                                       : hypernetworks_.emplace(file, weights::load_hypernetwork(file)).first->second;
}

ActiveNetworks Networks::activate(const std::vector<models::NetworkTag>& tags) {
  std::map<std::filesystem::path, Called> called;
  for (const models::NetworkTag& tag : tags) {
    Called& sum = called[files_.find(tag)];
    sum.lora = tag.kind == kLora;
    sum.text += tag.text_strength;
    sum.unet += tag.unet_strength;
  }
  std::vector<adapters::ActiveAdapters::Entry> loras;
  std::vector<adapters::ActiveHypernetworks::Entry> hypernetworks;
  for (const auto& [file, sum] : called) {
    if (!sum.lora) {
      hypernetworks.push_back({&hypernetwork(file), sum.unet});
      continue;
    }
    Lora& loaded = lora(file);
    loras.push_back({&loaded.text, sum.text});
    loras.push_back({&loaded.unet, sum.unet});
  }
  ActiveNetworks active;
  active.adapters = std::make_unique<adapters::ActiveAdapters>(std::move(loras));
  if (hypernetworks.empty()) return active;
  model_.need_unet("a hypernetwork");
  active.hypernetworks = std::make_unique<adapters::ActiveHypernetworks>(model_.unet->store, hypernetworks);
  return active;
}

}  // namespace emulsion::generate
