#include "adapters/hypernetwork.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <ranges>
#include <set>

#include "core/error.h"
#include "nn/chance.h"
#include "nn/init.h"

namespace emulsion::adapters {
namespace {

/// 0 for a layer that makes keys, 1 for values, nothing for others. Both are in every attention, self and cross.
std::optional<size_t> side_of(const nn::Leaf& leaf) {
  if (leaf.kind != nn::LeafKind::linear || leaf.path.find(".attn") == std::string::npos) return std::nullopt;
  if (leaf.path.ends_with(".to_k")) return 0;
  if (leaf.path.ends_with(".to_v")) return 1;
  return std::nullopt;
}

std::set<int64_t> widths_of(const nn::ParamStore& unet) {
  std::set<int64_t> widths;
  for (const nn::Leaf& leaf : unet.leaves()) {
    if (side_of(leaf)) widths.insert(leaf.weight->shape[1]);
  }
  return widths;
}

Tensor activated(Activation activation, const Tensor& x) {
  switch (activation) {
    case Activation::linear: return x;
    case Activation::relu: return at::relu(x);
    case Activation::leakyrelu: return at::leaky_relu(x, 0.01);
    case Activation::elu: return at::elu(x);
    case Activation::tanh: return at::tanh(x);
    case Activation::sigmoid: return at::sigmoid(x);
    case Activation::relu6: return at::hardtanh(x, 0, 6);
    case Activation::selu: return at::selu(x);
    case Activation::celu: return at::celu(x);
    case Activation::gelu: return at::gelu(x);
    case Activation::silu: return at::silu(x);
    case Activation::mish: return at::mish(x);
    case Activation::swish:
    case Activation::hardswish: return at::hardswish(x);
    case Activation::hardtanh: return at::hardtanh(x);
    case Activation::hardsigmoid: return at::hardsigmoid(x);
    case Activation::softplus: return at::softplus(x);
    case Activation::softsign: return x / (x.abs() + 1);
    case Activation::tanhshrink: return x - at::tanh(x);
  }
  throw Error(ErrorCode::internal, "[hypernetwork] unknown activation");
}

/// As torch.nn.init has them; kaiming's gain is that of leaky ReLU (slope 0.01) for leakyrelu, else of ReLU.
Tensor first_weight(const HypernetworkConfig& config, int64_t out, int64_t in, const Rng& rng, const std::string& name) {
  const double gain = config.activation == Activation::leakyrelu ? std::sqrt(2 / (1 + 0.01 * 0.01)) : std::sqrt(2.0);
  const double both = std::sqrt(2.0 / static_cast<double>(in + out)), to_uniform = std::sqrt(3.0);
  const auto drawn = [&](nn::InitKind kind, double factor) { return nn::draw(kind, factor, {out, in}, rng, name); };
  switch (config.init) {
    case HypernetworkInit::normal: return drawn(nn::InitKind::normal, 0.01);
    case HypernetworkInit::xavier_normal: return drawn(nn::InitKind::normal, both);
    case HypernetworkInit::kaiming_normal: return drawn(nn::InitKind::normal_fan_in, gain);
    case HypernetworkInit::kaiming_uniform: return drawn(nn::InitKind::uniform_fan_in, gain * to_uniform);
    default: return drawn(nn::InitKind::uniform_fan_in, both * to_uniform * std::sqrt(static_cast<double>(in)));
  }
}

void check_structure(const std::vector<double>& structure) {
  const bool ends = structure.size() >= 2 && structure.front() == 1 && structure.back() == 1;
  EMULSION_CHECK(ends && std::ranges::all_of(structure, [](double s) { return s > 0; }), config,
                 "[method] structure: expected positive multiples that begin and end with 1, like [1, 2, 1], got [{}]",
                 fmt::join(structure, ", "));
}

void check_dropout(const std::vector<double>& dropout, size_t layers) {
  const bool fits = dropout.empty() || (dropout.size() == layers && dropout.front() == 0);
  EMULSION_CHECK(fits && std::ranges::all_of(dropout, [](double p) { return p >= 0 && p < 1; }), config,
                 "[method] dropout: expected {} probabilities below 1, the first of them 0, got [{}]", layers,
                 fmt::join(dropout, ", "));
}

Mlp new_mlp(const HypernetworkConfig& config, int64_t width, const Rng& rng, const std::string& name) {
  Mlp mlp{.activation = config.activation, .activate_output = config.activate_output};
  const auto at_layer = [&](size_t i) { return static_cast<int64_t>(static_cast<double>(width) * config.structure[i]); };
  for (size_t i = 0; i + 1 < config.structure.size(); ++i) {
    const int64_t in = at_layer(i), out = at_layer(i + 1);
    const std::string layer = fmt::format("{}.{}", name, i);
    mlp.layers.push_back({false, first_weight(config, out, in, rng, layer), at::zeros({out})});
    if (config.layer_norm)
      mlp.layers.push_back({true, nn::draw(nn::InitKind::normal, 0.01, {out}, rng, layer + ".norm"), at::zeros({out})});
    if (!config.dropout.empty()) mlp.layers.back().dropout = config.dropout[i + 1];
  }
  return mlp;
}

class OnInput : public nn::LeafAdapter {
 public:
  OnInput(const Mlp& mlp, double strength, uint64_t place) : mlp_(mlp), strength_(strength), place_(place) {}
  Tensor map_input(const Tensor& x) const override { return strength_ == 0 ? x : at::add(x, mlp_(x, place_), strength_); }
  NamedTensors params() const override { return {}; }

 private:
  const Mlp& mlp_;
  double strength_;
  uint64_t place_;
};

}  // namespace

bool Mlp::activates_after(const Layer& layer) const {
  if (layer.norm || activation == Activation::linear) return false;
  const auto last = std::ranges::find_if(layers.rbegin(), layers.rend(), [](const Layer& other) { return !other.norm; });
  return activate_output || &layer != &*last;
}

Tensor Mlp::operator()(const Tensor& x, uint64_t place) const {
  Tensor y = x;
  for (const Layer& layer : layers) {
    const Tensor weight = layer.weight.to(x.scalar_type()), bias = layer.bias.to(x.scalar_type());
    y = layer.norm ? at::layer_norm(y, {weight.size(0)}, weight, bias) : nn::linear(y, weight, bias);
    if (activates_after(layer)) y = activated(activation, y);
    ++place;
    if (layer.dropout > 0 && nn::chance()) y = y * nn::dropout_mask(y, layer.dropout, place, *nn::chance());
  }
  return y;
}

std::vector<std::pair<std::string, Tensor*>> Mlp::parts() {
  std::vector<std::pair<std::string, Tensor*>> all;
  int64_t number = 0;
  for (Layer& layer : layers) {
    all.emplace_back(fmt::format("linear.{}.weight", number), &layer.weight);
    all.emplace_back(fmt::format("linear.{}.bias", number++), &layer.bias);
    if (activates_after(layer)) ++number;  // an activation is a part of its own, and so is dropout
    if (layer.dropout > 0) ++number;
  }
  return all;
}

Hypernetwork Hypernetwork::create(const HypernetworkConfig& config, const nn::ParamStore& unet, const Rng& rng) {
  check_structure(config.structure);
  check_dropout(config.dropout, config.structure.size());
  const std::set<int64_t> known = widths_of(unet);
  const std::set<int64_t> widths = config.widths.empty() ? known : std::set<int64_t>(config.widths.begin(), config.widths.end());
  Hypernetwork all;
  for (const int64_t width : widths) {
    EMULSION_CHECK(known.contains(width), not_found, "[method] widths: no attention input of this model is {} wide; there are: {}",
                   width, fmt::join(known, ", "));
    for (const size_t side : {0, 1})
      all.pairs[width][side] = new_mlp(config, width, rng, fmt::format("hypernetwork.{}.{}", width, side));
  }
  return all;
}

std::vector<std::pair<std::string, Tensor*>> Hypernetwork::parts() {
  std::vector<std::pair<std::string, Tensor*>> all;
  for (auto& [width, pair] : pairs) {
    for (const size_t side : {0, 1}) {
      for (auto& [name, tensor] : pair[side].parts()) all.emplace_back(fmt::format("{}.{}.{}", width, side, name), tensor);
    }
  }
  return all;
}

ActiveHypernetworks::ActiveHypernetworks(nn::ParamStore& unet, const std::vector<Entry>& entries) {
  for (const Entry& entry : entries) {
    const size_t before = bound_.size();
    for (nn::Leaf& leaf : unet.leaves()) {
      const auto side = side_of(leaf);
      if (!side) continue;
      const auto pair = entry.network->pairs.find(leaf.weight->shape[1]);
      if (pair != entry.network->pairs.end())
        bound_.emplace_back(&leaf, std::make_unique<OnInput>(pair->second[*side], entry.strength, hash_name(leaf.path)));
    }
    EMULSION_CHECK(
        bound_.size() > before, not_found,
        "[hypernetwork] it has networks for inputs of width {}, this model's are {} wide; was it trained on another model?",
        fmt::join(entry.network->pairs | std::views::keys, ", "), fmt::join(widths_of(unet), ", "));
  }
  for (auto& [leaf, adapter] : bound_) leaf->adapters.push_back(adapter.get());
}

ActiveHypernetworks::~ActiveHypernetworks() {
  for (auto& [leaf, adapter] : bound_) std::erase(leaf->adapters, adapter.get());
}

}  // namespace emulsion::adapters
