#include "weights/layer_names.h"

#include <algorithm>
#include <string_view>

#include "core/error.h"
#include "weights/name_rules.h"

namespace emulsion::weights {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kClip = "text_model.";  // before the layers of a text model, in files

std::string flattened(const std::string& prefix, const std::string& name) {
  std::string result = prefix + "_" + name;
  std::replace(result.begin(), result.end(), '.', '_');
  return result;
}

/// "unet.mid_block" -> "unet", "mid_block"
std::pair<std::string, std::string> divided(const std::string& path) {
  const size_t dot = path.find('.');
  return {path.substr(0, dot), path.substr(dot + 1)};
}

bool is_text_encoder(const std::string& part) { return part == "text_encoder" || part == "text_encoder_2"; }

std::string in_text_model(const std::string& leaf) {
  return leaf.starts_with("text_projection") ? leaf : std::string(kClip) + leaf;
}

}  // namespace

LayerNames::LayerNames(const models::Model& model) : two_encoders_(model.text_encoder_2 != nullptr) {
  if (!model.unet) return;
  try {
    for (const NameRule& rule : ldm_names(model.unet->net.config())) {
      if (!rule.canonical.ends_with(kWeight)) continue;
      ldm_[rule.canonical.substr(0, rule.canonical.size() - kWeight.size())] =
          rule.foreign.substr(0, rule.foreign.size() - kWeight.size());
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported) throw;
    ldm_.clear();  // an architecture that the layout cannot express has no such files
  }
}

std::string LayerNames::written(const std::string& path, AdapterNaming naming) const {
  const auto [part, leaf] = divided(path);
  EMULSION_CHECK(part == "unet" || is_text_encoder(part), unsupported,
                 "[lora] '{}' is in no part that adapter files know; they know unet, text_encoder, text_encoder_2", path);
  const bool text = is_text_encoder(part);
  if (naming == AdapterNaming::diffusers) return part + "." + (text ? in_text_model(leaf) : leaf);
  if (text) return flattened(!two_encoders_ ? "lora_te" : part == "text_encoder" ? "lora_te1" : "lora_te2", in_text_model(leaf));
  const auto ldm = two_encoders_ ? ldm_.find(leaf) : ldm_.end();
  return flattened("lora_unet", ldm == ldm_.end() ? leaf : ldm->second);
}

std::vector<std::string> LayerNames::known(const std::string& path) const {
  const auto [part, leaf] = divided(path);
  std::vector<std::string> names = {path};
  if (is_text_encoder(part)) {
    names.push_back(written(path, AdapterNaming::kohya));
    names.push_back(written(path, AdapterNaming::diffusers));
    if (!two_encoders_) names.push_back(flattened("lora_te1", in_text_model(leaf)));  // diffusers' convert_state_dict_to_kohya
  } else if (part == "unet") {
    for (const char* prefix : {"lora_unet", "oft_unet"}) {  // networks.oft of sd-scripts has its own
      names.push_back(flattened(prefix, leaf));
      if (const auto ldm = ldm_.find(leaf); ldm != ldm_.end()) names.push_back(flattened(prefix, ldm->second));
    }
  }
  return names;
}

}  // namespace emulsion::weights
