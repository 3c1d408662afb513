#include "weights/lora_file.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "core/error.h"
#include "io/safetensors.h"
#include "weights/adapter_file.h"

namespace emulsion::weights {
namespace {

struct Ending {
  const char* text;
  enum { down, up, alpha } what;
  bool peft;
};
constexpr Ending kEndings[] = {{".lora_down.weight", Ending::down, false},
                               {".lora_up.weight", Ending::up, false},
                               {".alpha", Ending::alpha, false},
                               {".lora_A.weight", Ending::down, true},
                               {".lora_B.weight", Ending::up, true}};

struct Halves {
  Tensor down, up;
  std::optional<double> alpha;
};

LowRankUpdate joined(const Halves& halves, const std::string& layer, const std::string& file) {
  EMULSION_CHECK(halves.down.defined() && halves.up.defined(), format,
                 "[{}] layer '{}' has only its {} half; the file is not whole", file, layer, halves.down.defined() ? "down" : "up");
  LowRankUpdate update;
  update.down = halves.down.to(at::kFloat).flatten(1);
  update.up = halves.up.to(at::kFloat).flatten(1);
  EMULSION_CHECK(update.up.size(1) == update.down.size(0), shape,
                 "[{}] layer '{}': expected halves of one rank, got {} (down) and {} (up)", file, layer, update.down.size(0),
                 update.up.size(1));
  update.down_shape.assign(halves.down.sizes().begin() + 1, halves.down.sizes().end());
  const auto rank = static_cast<double>(update.rank());
  update.scale = halves.alpha.value_or(rank) / rank;
  return update;
}

Tensor as_stored(const Tensor& down, const std::vector<int64_t>& shape, at::ScalarType dtype) {
  std::vector<int64_t> whole = {down.size(0)};
  whole.insert(whole.end(), shape.begin(), shape.end());
  return down.reshape(whole).to(dtype);
}

/// up = q_up r_up, down' = q_down r_down: then up down = q_up (r_up r_down') q_down', and the singular values are those of the
/// small matrix between.
struct Factors {
  Tensor q_up, q_down, left, values, right;  // float64
};
Factors factors_of(const LowRankUpdate& update) {
  const auto [q_up, r_up] = at::linalg_qr(update.up.to(at::kDouble));
  const auto [q_down, r_down] = at::linalg_qr(update.down.to(at::kDouble).t());
  const auto [left, values, right] = at::linalg_svd(at::matmul(r_up, r_down.t()) * update.scale, /*full_matrices=*/false);
  return {q_up, q_down, left, values, right};
}

/// How many values it takes until their sum reaches a share of the whole.
int64_t until(const Tensor& values, double share) {
  const Tensor reached = values.cumsum(0) / values.sum().clamp_min(1e-300);
  constexpr double kRounding = 1e-12;
  return reached.lt(share - kRounding).sum().item<int64_t>() + 1;
}

/// scale * up down = left diag(values) right, of which `rank` stay.
LowRankUpdate truncated(const Tensor& left, const Tensor& values, const Tensor& right, int64_t rank, double scale) {
  LowRankUpdate update;
  update.scale = scale;
  update.up = (left.narrow(1, 0, rank) * (values.narrow(0, 0, rank) / scale)).to(at::kFloat);
  update.down = right.narrow(0, 0, rank).to(at::kFloat);
  return update;
}

}  // namespace

LoraFile read_lora(const std::filesystem::path& path) {
  const io::TensorFile file = io::open_tensor_file(path);
  LoraFile lora;
  lora.metadata = file.metadata();
  std::map<std::string, Halves> halves;
  for (const auto& entry : file.entries()) {
    if (entry.name.starts_with(kBundle)) {
      lora.words[entry.name] = file.tensor(entry.name);
      continue;
    }
    const auto ending = std::ranges::find_if(kEndings, [&](const Ending& e) { return entry.name.ends_with(e.text); });
    EMULSION_CHECK(ending != std::end(kEndings), unsupported,
                   "[{}] '{}' belongs to no plain LoRA; this works with lora_down / lora_up and lora_A / lora_B only",
                   path.string(), entry.name);
    Halves& of_layer = halves[entry.name.substr(0, entry.name.size() - std::string_view(ending->text).size())];
    const Tensor value = file.tensor(entry.name);
    if (ending->what == Ending::alpha) of_layer.alpha = value.to(at::kDouble).item<double>();
    if (ending->what == Ending::down) of_layer.down = value;
    if (ending->what == Ending::up) of_layer.up = value;
    lora.peft = lora.peft || ending->peft;
  }
  for (const auto& [layer, of_layer] : halves) lora.layers.emplace(layer, joined(of_layer, layer, path.string()));
  return lora;
}

void write_lora(const std::filesystem::path& path, const LoraFile& lora, at::ScalarType dtype) {
  NamedTensors tensors;
  for (const auto& [name, vectors] : lora.words) tensors.emplace_back(name, vectors.to(dtype).contiguous());
  int64_t largest = 0;
  double alpha = 0;
  for (const auto& [layer, update] : lora.layers) {
    const bool linear = update.down_shape.size() == 1;
    const Tensor up = linear ? update.up : update.up.unsqueeze(-1).unsqueeze(-1);
    const Tensor scaled = lora.peft ? up * update.scale : up;
    tensors.emplace_back(layer + (lora.peft ? ".lora_A.weight" : ".lora_down.weight"),
                         as_stored(update.down, update.down_shape, dtype));
    tensors.emplace_back(layer + (lora.peft ? ".lora_B.weight" : ".lora_up.weight"), scaled.to(dtype).contiguous());
    if (!lora.peft)
      tensors.emplace_back(layer + ".alpha", at::scalar_tensor(update.scale * static_cast<double>(update.rank()), dtype));
    if (update.rank() > largest)
      std::tie(largest, alpha) = std::pair(update.rank(), update.scale * static_cast<double>(update.rank()));
  }
  std::map<std::string, std::string> metadata = lora.metadata;
  for (const char* stale : {"sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256"}) metadata.erase(stale);
  metadata["ss_network_dim"] = std::to_string(largest);
  metadata["ss_network_alpha"] = fmt::format("{}", alpha);
  if (!metadata.contains("ss_network_module")) metadata["ss_network_module"] = "networks.lora";
  metadata["sshs_model_hash"] = io::safetensors_data_sha256(tensors);
  io::write_safetensors(path, tensors, metadata);
}

Tensor singular_values(const LowRankUpdate& update) { return factors_of(update).values; }

double norm(const LowRankUpdate& update) {
  // |up down|^2 = <up' up, down down'>: two small matrices.
  const Tensor up = update.up.to(at::kDouble), down = update.down.to(at::kDouble);
  const double square = (at::matmul(up.t(), up) * at::matmul(down, down.t())).sum().item<double>();
  return std::abs(update.scale) * std::sqrt(std::max(square, 0.0));
}

int64_t kept(const Tensor& values, const RankRule& rule) {
  EMULSION_CHECK(rule.any(), config, "[lora] expected a rank, or which singular values stay; got neither");
  int64_t count = rule.by_values() ? 1 : values.size(0);
  if (rule.keep_norm > 0) count = std::max(count, until(values.square(), rule.keep_norm * rule.keep_norm));
  if (rule.keep_sum > 0) count = std::max(count, until(values, rule.keep_sum));
  if (rule.ratio > 0) count = std::max(count, values.ge(values[0] / rule.ratio).sum().item<int64_t>());
  if (rule.rank > 0) count = std::min(count, rule.rank);
  return std::clamp<int64_t>(count, 1, values.size(0));
}

LowRankUpdate resized(const LowRankUpdate& update, const RankRule& rule) {
  const Factors f = factors_of(update);
  LowRankUpdate smaller = truncated(at::matmul(f.q_up, f.left), f.values, at::matmul(f.right, f.q_down.t()), kept(f.values, rule),
                                    update.scale == 0 ? 1 : update.scale);
  smaller.down_shape = update.down_shape;
  return smaller;
}

LowRankUpdate low_rank(const Tensor& matrix, const RankRule& rule) {
  const auto [left, values, right] = at::linalg_svd(matrix.to(at::kFloat), /*full_matrices=*/false);
  LowRankUpdate update = truncated(left, values, right, kept(values, rule), 1);
  update.down_shape = {matrix.size(1)};
  return update;
}

LowRankUpdate sum(const std::vector<LowRankUpdate>& updates, const std::vector<double>& weights, const std::string& layer) {
  std::vector<Tensor> ups, downs;
  for (size_t i = 0; i < updates.size(); ++i) {
    EMULSION_CHECK(updates[i].down_shape == updates[0].down_shape && updates[i].up.size(0) == updates[0].up.size(0), shape,
                   "[lora] layer '{}': expected updates of one size, got [{}, {}] and [{}, {}]; they are for different models",
                   layer, updates[0].up.size(0), fmt::join(updates[0].down_shape, ", "), updates[i].up.size(0),
                   fmt::join(updates[i].down_shape, ", "));
    ups.push_back(updates[i].up * (weights[i] * updates[i].scale));
    downs.push_back(updates[i].down);
  }
  return {at::cat(ups, 1), at::cat(downs, 0), 1, updates[0].down_shape};
}

LoraFile sum(const std::vector<LoraFile>& files, const std::vector<double>& weights) {
  std::map<std::string, std::pair<std::vector<LowRankUpdate>, std::vector<double>>> parts;
  LoraFile all;
  for (size_t i = 0; i < files.size(); ++i) {
    EMULSION_CHECK(files[i].peft == files[0].peft, format, "[lora] expected files of one naming, got kohya's and PEFT's together");
    all.words.insert(files[i].words.begin(), files[i].words.end());
    for (const auto& [layer, update] : files[i].layers) {
      parts[layer].first.push_back(update);
      parts[layer].second.push_back(weights[i]);
    }
  }
  all.peft = files[0].peft;
  all.metadata = files[0].metadata;
  for (const auto& [layer, part] : parts) all.layers.emplace(layer, sum(part.first, part.second, layer));
  return all;
}

}  // namespace emulsion::weights
