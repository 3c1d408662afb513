#include "adapters/adapter_set.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "adapters/blocks.h"
#include "adapters/lora.h"
#include "adapters/weight_adapter.h"
#include "config/enum_names.h"
#include "core/error.h"
#include "core/log.h"
#include "nn/pattern.h"

namespace emulsion::adapters {
namespace {

std::unique_ptr<Adapter> new_adapter(const AdapterConfig& config, const LayerRule& rule, const nn::Leaf& leaf,
                                     const std::string& name, const Rng& rng) {
  if (leaf.kind == nn::LeafKind::norm) return new_weight_adapter(config, leaf, 1, 1, name, rng);
  EMULSION_CHECK(leaf.kind != nn::LeafKind::embedding, unsupported,
                 "[lora] '{}' is an embedding, which adapters do not train; exclude it: add \"!{}\" to method.targets", name, name);
  const bool large = is_large_convolution(leaf);
  const int64_t usual_rank = large && config.conv_rank > 0 ? config.conv_rank : config.rank;
  const double usual_alpha = large && config.conv_alpha > 0 ? config.conv_alpha : config.alpha;
  const int64_t rank = rule.rank > 0 ? rule.rank : usual_rank;
  double alpha = rule.alpha > 0 ? rule.alpha : usual_alpha;
  if (config.rank_stabilised) alpha *= std::sqrt(static_cast<double>(rank));  // files know alpha / rank only
  const bool plain = config.algo == Algorithm::lora && !config.dora && !(config.tucker && large);
  if (plain) return new_lora(config, rank, alpha, leaf, name, rng);
  return new_weight_adapter(config, leaf, rank, alpha, name, rng);
}

/// Throws: Error{not_found} for a rule that fits nothing.
std::vector<std::string> chosen_by(const LayerRule& rule, const std::vector<std::string>& names) {
  const std::vector<std::string> block = block_patterns(rule.pattern);
  if (block.empty()) return nn::select({rule.pattern}, names);
  std::vector<std::string> chosen;
  std::ranges::copy_if(names, std::back_inserter(chosen), [&](const std::string& name) {
    return std::ranges::any_of(block, [&](const std::string& pattern) { return nn::glob_match(pattern, name); });
  });
  EMULSION_CHECK(!chosen.empty(), not_found, "[method] layers \"{}\": none of the {} targets lies in this block ({})", rule.pattern,
                 names.size(), fmt::join(block, ", "));
  return chosen;
}

/// Of several rules that fit a layer the last counts.
std::unordered_map<std::string, LayerRule> rules_for(const std::vector<LayerRule>& layers, const std::vector<std::string>& names) {
  std::unordered_map<std::string, LayerRule> rules;
  for (const std::string& name : names) rules[name] = {};
  for (const LayerRule& rule : layers) {
    for (const std::string& name : chosen_by(rule, names)) rules[name] = rule;
  }
  return rules;
}

LoraAdapter* plain_lora(AdapterSet::Bound& bound) { return dynamic_cast<LoraAdapter*>(bound.adapter.get()); }

/// Null if the layer has none.
nn::Param* tensor_of(const std::string& path, const std::string& name, const std::vector<nn::Component>& components) {
  const size_t dot = path.find('.');
  const auto part = std::ranges::find(components, path.substr(0, dot), &nn::Component::name);
  EMULSION_CHECK(part != components.end(), internal, "[lora] no part holds '{}'", path);
  return part->store->find(path.substr(dot + 1) + "." + name);
}

}  // namespace

bool is_large_convolution(const nn::Leaf& leaf) { return leaf.kind == nn::LeafKind::conv2d && leaf.weight->shape[2] > 1; }

std::vector<std::pair<std::string, nn::Leaf*>> leaves_of(const std::vector<nn::Component>& components) {
  std::vector<std::pair<std::string, nn::Leaf*>> leaves;
  for (const nn::Component& part : components) {
    for (nn::Leaf& leaf : part.store->leaves()) leaves.emplace_back(part.name + "." + leaf.path, &leaf);
  }
  return leaves;
}

AdapterSet AdapterSet::create(const AdapterConfig& config, const std::vector<nn::Component>& components, const Rng& rng) {
  const auto leaves = leaves_of(components);
  std::vector<std::string> names, norms;
  for (const auto& [name, leaf] : leaves) (leaf->kind == nn::LeafKind::norm ? norms : names).push_back(name);
  std::vector<std::string> chosen = nn::select(config.norms, norms);
  if (config.algo != Algorithm::norm) std::ranges::copy(nn::select(config.targets, names), std::back_inserter(chosen));
  const auto rules = rules_for(config.layers, chosen);
  AdapterSet set;
  for (const auto& [name, leaf] : leaves) {
    const auto rule = rules.find(name);
    if (rule != rules.end()) set.add({name, leaf, new_adapter(config, rule->second, *leaf, name, rng), rule->second});
  }
  if (starts_at_weight(config)) {
    log::info("init = \"{}\": taking apart the weights of {} layers", config::name_of(config.init), set.bound().size());
    for (Bound& bound : set.bound()) start_at_weight(config.init, *plain_lora(bound), *tensor_of(bound.path, "weight", components));
  }
  return set;
}

void AdapterSet::follow(const AdapterConfig& config) {
  std::vector<std::string> names;
  for (const Bound& bound : bound_) names.push_back(bound.path);
  const auto rules = rules_for(config.layers, names);
  for (Bound& bound : bound_) {
    bound.rule = rules.at(bound.path);
    EMULSION_CHECK(bound.rule.rank == 0 && bound.rule.alpha == 0, config,
                   "[method] layers \"{}\": rank and alpha are those of the adapter to go on from; take them out", bound.rule.pattern);
    LoraAdapter* const lora = plain_lora(bound);
    const LoraDropout dropout = dropout_of(config, bound.path);
    EMULSION_CHECK(lora || !dropout.any(), unsupported, "[method] '{}' is no plain LoRA, which alone knows dropout; leave it at 0",
                   bound.path);
    if (lora) lora->dropout = dropout;
  }
}

void AdapterSet::limit_norms(double max) {
  const at::NoGradGuard no_grad;
  for (Bound& bound : bound_) {
    LoraAdapter* const lora = plain_lora(bound);
    if (!lora) continue;
    const double norm = lora->norm();
    if (norm <= max) continue;
    lora->down.mul_(std::sqrt(max / norm));
    lora->up.mul_(std::sqrt(max / norm));
  }
}

NamedTensors AdapterSet::params() const {
  NamedTensors all;
  for (const Bound& bound : bound_) {
    for (auto& [name, tensor] : bound.adapter->params()) all.emplace_back(bound.path + "." + name, tensor);
  }
  return all;
}

int64_t AdapterSet::numel() const {
  int64_t total = 0;
  for (const auto& [name, tensor] : params()) total += tensor.numel();
  return total;
}

namespace {

/// The tensor under this name, changed in float32 and rounded once.
template <class Change>
void bake_into(nn::Param* param, const Change& change) {
  if (param) param->value = change(param->value.to(at::kFloat)).to(param->value.scalar_type());
}

}  // namespace

void bake(AdapterSet& set, double strength, const std::vector<nn::Component>& components) {
  const at::NoGradGuard no_grad;
  for (AdapterSet::Bound& bound : set.bound()) {
    Adapter& adapter = *bound.adapter;
    adapter.strength = strength;
    bake_into(tensor_of(bound.path, "weight", components), [&](const Tensor& w) {
      const std::optional<Tensor> baked = adapter.bake(w);
      EMULSION_CHECK(baked, unsupported, "[lora] '{}' does not change its weight, and cannot be merged into a model", bound.path);
      return *baked;
    });
    bake_into(tensor_of(bound.path, "bias", components), [&](const Tensor& b) { return adapter.map_bias(b); });
    adapter.strength = 1;
  }
}

ActiveAdapters::ActiveAdapters(std::vector<Entry> entries) : entries_(std::move(entries)) {
  for (const Entry& entry : entries_) {
    for (AdapterSet::Bound& bound : entry.set->bound()) {
      bound.adapter->strength = entry.strength;
      bound.leaf->adapters.push_back(bound.adapter.get());
    }
  }
}

ActiveAdapters::~ActiveAdapters() {
  for (const Entry& entry : entries_) {
    for (AdapterSet::Bound& bound : entry.set->bound()) {
      std::erase(bound.leaf->adapters, bound.adapter.get());
      bound.adapter->strength = 1;
    }
  }
}

}  // namespace emulsion::adapters
