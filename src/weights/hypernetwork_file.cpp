#include "weights/hypernetwork_file.h"

#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <map>
#include <optional>

#include "config/enum_names.h"
#include "core/error.h"
#include "io/tensor_file.h"
#include "io/torch_write.h"

namespace emulsion::weights {
namespace {

using adapters::Activation;
using adapters::Hypernetwork;
using adapters::Mlp;
using io::PythonValue;

/// "320.0.linear.2.weight" in its parts; of old files "320.0.linear1.weight", whose layers count from 1.
struct TensorName {
  int64_t width = 0, side = 0, number = 0;
  bool is_weight = true;
};

std::optional<TensorName> parsed(std::string_view name) {
  TensorName result;
  const auto number = [&](int64_t& into) {
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), into);
    const bool found = error == std::errc();
    name.remove_prefix(static_cast<size_t>(end - name.data()));
    return found;
  };
  const auto text = [&](std::string_view expected) {
    const bool found = name.starts_with(expected);
    if (found) name.remove_prefix(expected.size());
    return found;
  };
  if (!number(result.width) || !text(".") || !number(result.side) || !text(".linear")) return std::nullopt;
  const bool old = !text(".");
  if (!number(result.number) || !text(".")) return std::nullopt;
  if (old) --result.number;
  result.is_weight = name == "weight";
  if (!result.is_weight && name != "bias") return std::nullopt;
  return result;
}

std::string fact(const io::TensorFile& file, const std::string& key, const std::string& otherwise) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() || found->second == "None" ? otherwise : found->second;
}

Activation activation_of(const io::TensorFile& file) {
  const std::string name = fact(file, "activation_func", "linear");
  for (const auto& [activation, known] : adapters::enum_names(Activation{})) {
    if (name == known) return activation;
  }
  throw Error(ErrorCode::unsupported, fmt::format("{}: the activation '{}' is not built; there are: {}", file.path().string(), name,
                                                  fmt::join(config::names_of<Activation>(), ", ")));
}

/// Layers follow each other, and lead back to the width that they begin with.
void check_layers(const std::filesystem::path& path, int64_t width, const Mlp& mlp) {
  int64_t at = width;
  for (const Mlp::Layer& layer : mlp.layers) {
    const bool whole = layer.weight.defined() && layer.bias.defined() && layer.bias.dim() == 1;
    const bool fits = whole && layer.bias.size(0) == layer.weight.size(0) && layer.weight.dim() == (layer.norm ? 1 : 2) &&
                      layer.weight.size(-1) == at;
    EMULSION_CHECK(fits, format,
                   "{}: the network of width {} is damaged: expected layers of weight and bias that fit onto each other",
                   path.string(), width);
    at = layer.weight.size(0);
  }
  EMULSION_CHECK(!mlp.layers.empty() && at == width, format, "{}: the network of width {} ends {} wide", path.string(), width, at);
}

PythonValue::List list_of(const std::vector<double>& numbers) {
  PythonValue::List list;
  for (const double number : numbers) list.items.emplace_back().value = number;
  return list;
}

}  // namespace

Hypernetwork load_hypernetwork(const std::filesystem::path& path) {
  const io::TensorFile file = io::open_tensor_file(path);
  std::map<int64_t, std::array<std::map<int64_t, Mlp::Layer>, 2>> layers;  // by width, side, and number in the file
  for (const io::TensorFile::Entry& entry : file.entries()) {
    const auto name = parsed(entry.name);
    EMULSION_CHECK(name && (name->side == 0 || name->side == 1), format,
                   "{}: expected a hypernetwork's tensors, like '320.0.linear.0.weight', got '{}'", path.string(), entry.name);
    Mlp::Layer& layer = layers[name->width][static_cast<size_t>(name->side)][name->number];
    const Tensor value = file.tensor(entry.name).to(at::kFloat).clone();
    (name->is_weight ? layer.weight : layer.bias) = value;
    if (name->is_weight) layer.norm = value.dim() == 1;
  }
  const Activation activation = activation_of(file);
  const bool activate_output = fact(file, "activate_output", "True") == "True";
  Hypernetwork network;
  for (auto& [width, sides] : layers) {
    for (const size_t side : {0, 1}) {
      Mlp mlp{.activation = activation, .activate_output = activate_output};
      for (auto& [number, layer] : sides[side]) mlp.layers.push_back(layer);
      check_layers(path, width, mlp);
      network.pairs[width][side] = std::move(mlp);
    }
  }
  return network;
}

void save_hypernetwork(const std::filesystem::path& path, Hypernetwork& network, const HypernetworkFacts& facts) {
  const auto text = [](std::string value) { return PythonValue{std::move(value)}; };
  PythonValue::Dict root;
  for (auto& [width, pair] : network.pairs) {
    PythonValue::Tuple sides;
    for (Mlp& mlp : pair) {
      PythonValue::Dict tensors;
      for (const auto& [name, tensor] : mlp.parts()) tensors.items.push_back({text(name), PythonValue{*tensor}});
      sides.items.push_back(PythonValue{std::move(tensors)});
    }
    root.items.push_back({PythonValue{width}, PythonValue{std::move(sides)}});
  }
  const auto say = [&](const char* key, PythonValue value) { root.items.push_back({text(key), std::move(value)}); };
  say("step", PythonValue{facts.steps});
  say("name", text(facts.name));
  say("layer_structure", PythonValue{list_of(facts.config.structure)});
  say("activation_func", text(config::name_of(facts.config.activation)));
  say("is_layer_norm", PythonValue{facts.config.layer_norm});
  // The web UI's own words: Normal, XavierUniform, ...
  constexpr std::array kInits = {"Normal", "XavierUniform", "XavierNormal", "KaimingUniform", "KaimingNormal"};
  say("weight_initialization", text(kInits[static_cast<size_t>(facts.config.init)]));
  say("sd_checkpoint", PythonValue{PythonValue::None{}});
  say("sd_checkpoint_name", text(facts.model));
  say("activate_output", PythonValue{facts.config.activate_output});
  const std::vector<double>& dropout = facts.config.dropout;
  say("use_dropout", PythonValue{!dropout.empty()});
  if (dropout.empty()) {
    say("dropout_structure", PythonValue{PythonValue::None{}});
  } else {
    say("dropout_structure", PythonValue{list_of(dropout)});
  }
  say("last_layer_dropout", PythonValue{!dropout.empty() && dropout.back() > 0});
  say("optional_info", PythonValue{PythonValue::None{}});
  io::write_torch_file(path, PythonValue{std::move(root)});
}

}  // namespace emulsion::weights
