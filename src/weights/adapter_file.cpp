#include "weights/adapter_file.h"

#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "core/error.h"
#include "io/safetensors.h"
#include "weights/adapter_kinds.h"

namespace emulsion::weights {
namespace {

using adapters::AdapterSet;

// How a part's leaves are called in adapter files.
struct PartNames {
  const char* component;  // ours
  const char* kohya;      // prefix of the flattened name
  const char* inner;      // what stands between the component and the leaf's path in both namings
};
constexpr PartNames kParts[] = {{"unet", "lora_unet", ""}, {"text_encoder", "lora_te", "text_model."}};

// Endings of the two matrices, in the order in which the field invented them.
struct Ending {
  const char* text;
  enum Slot { down, up, alpha } slot;
};
constexpr Ending kEndings[] = {{".lora_down.weight", Ending::down},
                               {".lora_up.weight", Ending::up},
                               {".alpha", Ending::alpha},
                               {".lora_A.weight", Ending::down},
                               {".lora_B.weight", Ending::up},
                               {".lora.down.weight", Ending::down},
                               {".lora.up.weight", Ending::up},
                               {".lora_linear_layer.down.weight", Ending::down},
                               {".lora_linear_layer.up.weight", Ending::up}};

const PartNames& part_of(const std::string& path) {
  for (const PartNames& part : kParts) {
    if (path.starts_with(std::string(part.component) + ".")) return part;
  }
  throw Error(ErrorCode::unsupported, fmt::format("[lora] '{}' is in no part that LoRA files know", path));
}

/// "text_encoder.encoder.layers.0" -> "text_encoder.text_model.encoder.layers.0".
std::string dotted_name(const std::string& path) {
  const PartNames& part = part_of(path);
  const std::string component = std::string(part.component) + ".";
  return component + part.inner + path.substr(component.size());
}

struct Pieces {
  Tensor down, up, alpha;
};

/// Names under which a leaf may stand in a file.
std::vector<std::string> known_names(const std::string& path) {
  return {kohya_name(path), dotted_name(path), path};
}

/// Alphas that diffusers keeps in the header as the JSON of its PEFT config: "unet.lora_alpha", and "unet.alpha_pattern" by
/// the end of the layer's name.
class HeaderAlphas {
 public:
  explicit HeaderAlphas(const io::SafetensorsFile& file) {
    const auto text = file.metadata().find("lora_adapter_metadata");
    if (text == file.metadata().end()) return;
    json_ = nlohmann::json::parse(text->second, nullptr, /*allow_exceptions=*/false);
    EMULSION_CHECK(json_.is_object(), format, "[{}] its header's 'lora_adapter_metadata' is no JSON object",
                   file.path().string());
  }

  /// `path`: component and leaf. Alpha = rank where nothing is said.
  double of(const std::string& path, int64_t rank) const {
    const size_t dot = path.find('.');
    const std::string part = path.substr(0, dot), layer = path.substr(dot + 1);
    const auto pattern = json_.find(part + ".alpha_pattern");
    if (json_.is_object() && pattern != json_.end() && pattern->is_object()) {
      for (const auto& [name, value] : pattern->items()) {
        if (value.is_number() && (layer == name || layer.ends_with("." + name))) return value.get<double>();
      }
    }
    const auto alpha = json_.find(part + ".lora_alpha");
    const bool given = json_.is_object() && alpha != json_.end() && alpha->is_number();
    return given ? alpha->get<double>() : static_cast<double>(rank);
  }

 private:
  nlohmann::json json_ = nlohmann::json::object();
};

/// Linear factors of 1x1 convolutions are stored with or without the two trailing ones.
Tensor fit(const Tensor& stored, size_t dims) {
  Tensor value = stored.to(at::kFloat);
  if (dims == 4 && value.dim() == 2) value = value.unsqueeze(-1).unsqueeze(-1);
  if (dims == 2 && value.dim() == 4 && value.size(2) == 1 && value.size(3) == 1) value = value.flatten(1);
  return value.clone();
}

}  // namespace

std::string kohya_name(const std::string& path) {
  const PartNames& part = part_of(path);
  std::string rest = "." + std::string(part.inner) + path.substr(std::string_view(part.component).size() + 1);
  std::replace(rest.begin(), rest.end(), '.', '_');
  return part.kohya + rest;
}

AdapterSet load_adapter(const std::filesystem::path& path, const std::vector<nn::Component>& components) {
  const auto file = io::SafetensorsFile::open(path);
  refuse_other_adapters(file);
  // Flattened names are never parsed: every leaf's names are made and looked up.
  std::unordered_map<std::string, std::pair<std::string, nn::Leaf*>> by_name;
  std::vector<nn::Component> adaptable;
  for (const nn::Component& part : components) {
    if (part.name != "vae") adaptable.push_back(part);
  }
  for (const auto& [name, leaf] : adapters::leaves_of(adaptable)) {
    for (const std::string& known : known_names(name)) by_name[known] = {name, leaf};
  }

  std::map<std::string, Pieces> found;
  std::vector<std::string> unknown;
  for (const auto& entry : file.entries()) {
    bool taken = false;
    for (const Ending& ending : kEndings) {
      if (!entry.name.ends_with(ending.text)) continue;
      const std::string base = entry.name.substr(0, entry.name.size() - std::string_view(ending.text).size());
      if (!by_name.contains(base)) break;
      Pieces& pieces = found[base];
      const Tensor value = file.tensor(entry.name);
      (ending.slot == Ending::down ? pieces.down : ending.slot == Ending::up ? pieces.up : pieces.alpha) = value;
      taken = true;
      break;
    }
    if (!taken) unknown.push_back(entry.name);
  }
  if (!unknown.empty()) {
    const size_t shown = std::min<size_t>(unknown.size(), 3);
    throw Error(ErrorCode::not_found,
                fmt::format("[{}] {} of {} keys fit no layer of this model: {}; give a LoRA in kohya's or diffusers' names "
                            "that was trained on a model of the same architecture",
                            path.string(), unknown.size(), file.entries().size(),
                            fmt::join(unknown.begin(), unknown.begin() + shown, ", ")));
  }
  EMULSION_CHECK(!found.empty(), format, "[{}] the file holds no tensors", path.string());

  const HeaderAlphas header(file);
  AdapterSet set;
  for (const auto& [base, pieces] : found) {
    const auto& [name, leaf] = by_name[base];
    EMULSION_CHECK(pieces.down.defined() && pieces.up.defined(), format, "[{}] '{}' lacks its {} matrix", path.string(),
                   base, pieces.down.defined() ? "up" : "down");
    const size_t dims = leaf->weight->shape.size();
    const Tensor down = fit(pieces.down, dims), up = fit(pieces.up, dims);
    const double alpha =
        pieces.alpha.defined() ? pieces.alpha.to(at::kDouble).item<double>() : header.of(name, down.size(0));
    with_context("loading " + path.string(), [&, &leaf = leaf, &name = name] {
      set.add({name, leaf, std::make_unique<adapters::LoraAdapter>(*leaf, down, up, alpha)});
    });
  }
  return set;
}

void save_adapter(const std::filesystem::path& file, const AdapterSet& set, AdapterNaming naming,
                  const std::map<std::string, std::string>& metadata, at::ScalarType dtype) {
  NamedTensors tensors;
  for (const AdapterSet::Bound& bound : set.bound()) {
    const adapters::LoraAdapter& lora = *bound.adapter;
    const Tensor down = lora.down.detach(), up = lora.up.detach();
    if (naming == AdapterNaming::kohya) {
      const std::string name = kohya_name(bound.path);
      tensors.emplace_back(name + ".lora_down.weight", down.to(dtype));
      tensors.emplace_back(name + ".lora_up.weight", up.to(dtype));
      tensors.emplace_back(name + ".alpha", at::scalar_tensor(lora.alpha, at::TensorOptions().dtype(dtype)));
    } else {
      const std::string name = dotted_name(bound.path);
      const double scale = lora.alpha / static_cast<double>(lora.rank());
      tensors.emplace_back(name + ".lora_A.weight", down.to(dtype));
      tensors.emplace_back(name + ".lora_B.weight", (up * scale).to(dtype));
    }
  }
  auto header = metadata;
  header.emplace("format", "pt");
  io::write_safetensors(file, tensors, header);
}

}  // namespace emulsion::weights
