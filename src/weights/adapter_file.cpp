#include "weights/adapter_file.h"

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "adapters/lora.h"
#include "adapters/weight_adapter.h"
#include "core/error.h"
#include "io/safetensors.h"
#include "weights/adapter_kinds.h"

namespace emulsion::weights {
namespace {

using adapters::AdapterParts;
using adapters::AdapterSet;
using adapters::Algorithm;

/// How a name ends, and what that tensor is called in kohya's and LyCORIS' files.
struct Ending {
  const char* text;
  const char* part;
};
/// Endings that contain others come first.
constexpr Ending kEndings[] = {{".lora_down.weight", "lora_down.weight"},
                               {".lora_up.weight", "lora_up.weight"},
                               {".lora_mid.weight", "lora_mid.weight"},
                               {".lora_A.weight", "lora_down.weight"},
                               {".lora_B.weight", "lora_up.weight"},
                               {".lora.down.weight", "lora_down.weight"},
                               {".lora.up.weight", "lora_up.weight"},
                               {".lora_linear_layer.down.weight", "lora_down.weight"},
                               {".lora_linear_layer.up.weight", "lora_up.weight"},
                               {".alpha", "alpha"},
                               {".dora_scale", "dora_scale"},
                               {".lora_magnitude_vector.weight", "magnitude"},
                               {".lora_magnitude_vector", "magnitude"},
                               {".hada_w1_a", "hada_w1_a"},
                               {".hada_w1_b", "hada_w1_b"},
                               {".hada_w2_a", "hada_w2_a"},
                               {".hada_w2_b", "hada_w2_b"},
                               {".hada_t1", "hada_t1"},
                               {".hada_t2", "hada_t2"},
                               {".lokr_w1", "lokr_w1"},
                               {".lokr_w1_a", "lokr_w1_a"},
                               {".lokr_w1_b", "lokr_w1_b"},
                               {".lokr_w2", "lokr_w2"},
                               {".lokr_w2_a", "lokr_w2_a"},
                               {".lokr_w2_b", "lokr_w2_b"},
                               {".lokr_t2", "lokr_t2"},
                               {".oft_blocks", "oft_blocks"},
                               {".rescale", "rescale"},
                               {".a1.weight", "a1.weight"},
                               {".a2.weight", "a2.weight"},
                               {".b1.weight", "b1.weight"},
                               {".b2.weight", "b2.weight"},
                               {".diff", "diff"},
                               {".diff_b", "diff_b"},
                               {".w_norm", "w_norm"},
                               {".b_norm", "b_norm"},
                               {".on_input", "on_input"},
                               {".weight", "weight"}};

/// The tensors of one layer in a file.
using Pieces = std::map<std::string, Tensor>;

Tensor taken(Pieces& pieces, const char* name) {
  auto node = pieces.extract(name);
  return node.empty() ? Tensor() : node.mapped();
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

/// PEFT's [out] or [1, out, 1, 1] as LyCORIS' [out, 1, 1, 1].
Tensor as_dora_scale(const Tensor& magnitude, size_t dims) {
  std::vector<int64_t> shape(dims, 1);
  shape[0] = magnitude.numel();
  return magnitude.to(at::kFloat).reshape(shape).clone();
}

/// Leaves by every name under which a file may have them: flattened names are made and looked up, never parsed.
using LeavesByName = std::unordered_map<std::string, std::pair<std::string, nn::Leaf*>>;

LeavesByName leaves_by_name(const models::Model& model) {
  const LayerNames names(model);
  LeavesByName by_name;
  std::vector<nn::Component> adaptable;
  for (const nn::Component& part : model.components()) {
    if (part.name != "vae") adaptable.push_back(part);
  }
  for (const auto& [path, leaf] : adapters::leaves_of(adaptable)) {
    for (const std::string& known : names.known(path)) by_name[known] = {path, leaf};
  }
  return by_name;
}

/// The layer's name and what its tensor is, or nothing.
std::optional<std::pair<std::string, const char*>> read_name(const std::string& name, const LeavesByName& leaves) {
  for (const Ending& ending : kEndings) {
    if (!name.ends_with(ending.text)) continue;
    const std::string base = name.substr(0, name.size() - std::string_view(ending.text).size());
    if (leaves.contains(base)) return std::pair(base, ending.part);
  }
  return std::nullopt;
}

/// The tensors of a file by layer.
std::map<std::string, Pieces> pieces_of(const io::SafetensorsFile& file, const LeavesByName& leaves) {
  std::map<std::string, Pieces> found;
  std::vector<std::string> unknown;
  for (const auto& entry : file.entries()) {
    if (entry.name.starts_with(kBundle)) continue;
    const auto read = read_name(entry.name, leaves);
    read ? void(found[read->first][read->second] = file.tensor(entry.name)) : unknown.push_back(entry.name);
  }
  if (!unknown.empty()) {
    const size_t shown = std::min<size_t>(unknown.size(), 3);
    throw Error(ErrorCode::not_found,
                fmt::format("[{}] {} of {} keys fit no layer of this model: {}; give a LoRA in kohya's or diffusers' names "
                            "that was trained on a model of the same architecture",
                            file.path().string(), unknown.size(), file.entries().size(),
                            fmt::join(unknown.begin(), unknown.begin() + shown, ", ")));
  }
  EMULSION_CHECK(!found.empty(), format, "[{}] the file holds no tensors", file.path().string());
  return found;
}

/// `layer` is what the file calls it; `header_alpha(rank)` what its header says.
std::unique_ptr<adapters::Adapter> adapter_of(const std::string& layer, Pieces pieces, const nn::Leaf& leaf,
                                              const std::function<double(int64_t)>& header_alpha) {
  const size_t dims = leaf.weight->shape.size();
  const Tensor alpha = taken(pieces, "alpha"), on_input = taken(pieces, "on_input");
  const auto alpha_or = [&](double otherwise) { return alpha.defined() ? alpha.to(at::kDouble).item<double>() : otherwise; };
  if (const Tensor magnitude = taken(pieces, "magnitude"); magnitude.defined()) {
    pieces["dora_scale"] = as_dora_scale(magnitude, dims);
  }
  EMULSION_CHECK(!pieces.empty(), format, "'{}' has an alpha and nothing else", layer);
  std::optional<Algorithm> algorithm;
  for (const auto& [name, tensor] : pieces) {
    if (!algorithm) algorithm = adapters::algorithm_of(name);
  }
  EMULSION_CHECK(algorithm, format, "'{}' has '{}' and nothing that it belongs to", layer, pieces.begin()->first);
  if (*algorithm == Algorithm::lora) {
    const Tensor &down = pieces["lora_down.weight"], &up = pieces["lora_up.weight"];
    EMULSION_CHECK(down.defined() && up.defined(), format, "'{}' lacks its {} matrix", layer, down.defined() ? "up" : "down");
    const double scale = alpha_or(header_alpha(down.size(0)));
    if (pieces.size() == 2) return std::make_unique<adapters::LoraAdapter>(leaf, fit(down, dims), fit(up, dims), scale);
  }
  NamedTensors tensors;
  for (auto& [name, tensor] : pieces) {
    tensors.emplace_back(name, name.starts_with("lora_") ? fit(tensor, dims) : tensor.to(at::kFloat).clone());
  }
  AdapterParts parts(std::move(tensors));
  const double otherwise = *algorithm == Algorithm::oft ? 0 : adapters::rank_of(*algorithm, parts);
  const bool input = on_input.defined() && on_input.to(at::kDouble).item<double>() != 0;
  return std::make_unique<adapters::WeightAdapter>(leaf, *algorithm, std::move(parts), alpha_or(otherwise), input);
}

/// In diffusers' names: LoRA, and DoRA.
void add_in_diffusers_names(const std::string& name, const adapters::Adapter& adapter, at::ScalarType dtype, NamedTensors& into) {
  std::map<std::string, Tensor> parts;
  for (auto& [part, tensor] : adapter.params()) parts[part] = tensor.detach();
  const bool known = parts.contains("lora_down.weight") && !parts.contains("lora_mid.weight");
  EMULSION_CHECK(known, unsupported, "[adapter] '{}': diffusers has names for LoRA and DoRA only; write kohya's names", name);
  const double alpha = adapter.constants().front().second.item<double>();
  const Tensor& down = parts["lora_down.weight"];
  into.emplace_back(name + ".lora_A.weight", down.to(dtype));
  into.emplace_back(name + ".lora_B.weight", (parts["lora_up.weight"] * (alpha / static_cast<double>(down.size(0)))).to(dtype));
  if (const Tensor magnitude = parts["dora_scale"]; magnitude.defined()) {
    std::vector<int64_t> shape = {magnitude.numel()};
    if (down.dim() == 4) shape = {1, magnitude.numel(), 1, 1};
    into.emplace_back(name + ".lora_magnitude_vector", magnitude.reshape(shape).to(dtype));
  }
}

void add_in_kohya_names(const std::string& name, const adapters::Adapter& adapter, at::ScalarType dtype, NamedTensors& into) {
  for (const auto& [part, tensor] : adapter.params()) into.emplace_back(name + "." + part, tensor.detach().to(dtype).contiguous());
  for (const auto& [constant, tensor] : adapter.constants()) {
    into.emplace_back(name + "." + constant, tensor.is_floating_point() ? tensor.to(dtype) : tensor);
  }
}

}  // namespace

AdapterSet load_adapter(const std::filesystem::path& path, const models::Model& model) {
  const auto file = io::SafetensorsFile::open(path);
  refuse_other_adapters(file);
  const LeavesByName leaves = leaves_by_name(model);
  const HeaderAlphas header(file);
  AdapterSet set;
  for (auto& [layer, pieces] : pieces_of(file, leaves)) {
    const auto& [leaf_path, leaf] = leaves.at(layer);
    with_context("loading " + path.string(), [&, &layer = layer, &pieces = pieces, &leaf_path = leaf_path, &leaf = leaf] {
      set.add({leaf_path, leaf,
               adapter_of(layer, std::move(pieces), *leaf, [&](int64_t rank) { return header.of(leaf_path, rank); })});
    });
  }
  return set;
}

void save_adapter(const std::filesystem::path& file, const AdapterSet& set, const LayerNames& names, AdapterNaming naming,
                  const std::map<std::string, std::string>& metadata, at::ScalarType dtype, const NamedTensors& words) {
  NamedTensors tensors;
  for (const auto& [name, vectors] : words) tensors.emplace_back(name, vectors.to(dtype));
  for (const AdapterSet::Bound& bound : set.bound()) {
    const auto add = naming == AdapterNaming::kohya ? add_in_kohya_names : add_in_diffusers_names;
    add(names.written(bound.path, naming), *bound.adapter, dtype, tensors);
  }
  auto header = metadata;
  header.emplace("format", "pt");
  io::write_safetensors(file, tensors, header);
}

}  // namespace emulsion::weights
