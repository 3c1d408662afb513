#include "adapters/lora.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "nn/chance.h"
#include "nn/init.h"
#include "nn/param_store.h"

namespace emulsion::adapters {

LoraDropout dropout_of(const AdapterConfig& config, const std::string& name) {
  return {config.dropout, config.rank_dropout, config.module_dropout, hash_name(name)};
}

LoraAdapter::LoraAdapter(const nn::Leaf& leaf, Tensor down_in, Tensor up_in, double alpha_in)
    : Adapter(leaf), down(std::move(down_in)), up(std::move(up_in)), alpha(alpha_in) {
  const auto& weight = leaf.weight->shape;
  const int64_t r = down.size(0);
  std::vector<int64_t> down_shape(weight.begin(), weight.end());
  down_shape[0] = r;
  std::vector<int64_t> up_shape(weight.size(), 1);
  up_shape[0] = weight[0];
  up_shape[1] = r;
  EMULSION_CHECK(leaf.kind == nn::LeafKind::linear || leaf.kind == nn::LeafKind::conv2d, unsupported,
                 "[lora] '{}' is {}", leaf.path, leaf.kind == nn::LeafKind::norm ? "a norm" : "an embedding");
  EMULSION_CHECK(down.sizes() == at::IntArrayRef(down_shape) && up.sizes() == at::IntArrayRef(up_shape), shape,
                 "[lora] '{}': expected down [{}] and up [{}], got [{}] and [{}]; was it trained on another model?",
                 leaf.path, fmt::join(down_shape, ", "), fmt::join(up_shape, ", "), fmt::join(down.sizes(), ", "),
                 fmt::join(up.sizes(), ", "));
}

Tensor LoraAdapter::map_output(const Tensor& y, const Tensor& x) const {
  if (strength == 0 || (nn::chance() && dropout.module > 0 && nn::is_left_out(dropout.module, dropout.layer, *nn::chance())))
    return y;
  const auto cast = [&](const Tensor& t) { return t.scalar_type() == x.scalar_type() ? t : t.to(x.scalar_type()); };
  const Tensor inner = dropped(leaf_.apply(x, cast(down), {}));
  const Tensor update = leaf_.kind == nn::LeafKind::linear ? at::linear(inner, cast(up)) : at::conv2d(inner, cast(up));
  return at::add(y, update, scale());
}

/// inner: [B, .., r] of a linear leaf, [B, r, h, w] of a convolution.
Tensor LoraAdapter::dropped(const Tensor& inner) const {
  const nn::Chance* const chance = nn::chance();
  if (!chance) return inner;
  Tensor result = inner;
  const int64_t ranks = leaf_.kind == nn::LeafKind::linear ? inner.dim() - 1 : 1;
  if (dropout.number > 0) result = result * nn::dropout_mask(inner, dropout.number, dropout.layer, *chance);
  if (dropout.rank > 0) result = result * nn::dropout_mask(inner, dropout.rank, dropout.layer + (1 << 16), *chance, ranks);
  return result;
}

std::optional<nn::LowRank> LoraAdapter::low_rank() const {
  if (nn::chance() && dropout.any()) return std::nullopt;
  if (strength == 0 || leaf_.kind != nn::LeafKind::linear) return std::nullopt;
  return nn::LowRank{down, up, scale()};
}

std::optional<Tensor> LoraAdapter::bake(const Tensor& w) const {
  const Tensor update = at::matmul(up.flatten(1), down.flatten(1)).reshape(w.sizes());
  return w + scale() * update.to(w.scalar_type());
}

/// tr((U^T U) (D D^T)): nothing of the weight's size is formed.
double LoraAdapter::norm() const {
  const at::NoGradGuard no_grad;
  const Tensor d = down.flatten(1).to(at::kDouble), u = up.flatten(1).to(at::kDouble);
  const Tensor squared = (at::matmul(u.t(), u) * at::matmul(d, d.t())).sum();
  return std::abs(alpha) / static_cast<double>(rank()) * std::sqrt(std::max(0.0, squared.item<double>()));
}

void start_at_weight(LoraInit init, LoraAdapter& adapter, nn::Param& weight) {
  const at::NoGradGuard no_grad;
  const Tensor w = weight.value.to(at::kFloat).flatten(1);
  const int64_t r = adapter.rank(), most = std::min(w.size(0), w.size(1));
  EMULSION_CHECK(r <= most, config, "[method] '{}' has rank {} at most, and init = \"{}\" wants {} of it; lower rank, or exclude it",
                 weight.path, most, init == LoraInit::pissa ? "pissa" : "olora", r);
  Tensor down, up;
  if (init == LoraInit::pissa) {
    const auto [u, s, v] = at::linalg_svd(w, /*full_matrices=*/false);
    const Tensor root = (s.narrow(0, 0, r) / adapter.scale()).sqrt();
    up = u.narrow(1, 0, r) * root;
    down = root.unsqueeze(1) * v.narrow(0, 0, r);
  } else {
    const auto [q, upper] = at::linalg_qr(w);
    up = q.narrow(1, 0, r);
    down = upper.narrow(0, 0, r);
  }
  adapter.down = down.reshape(adapter.down.sizes()).contiguous();
  adapter.up = up.reshape(adapter.up.sizes()).contiguous();
  adapter.origin = {adapter.down.clone(), adapter.up.clone()};
  weight.value = (w - adapter.scale() * at::matmul(up, down)).reshape(weight.value.sizes()).to(weight.value.scalar_type());
}

std::unique_ptr<LoraAdapter> relative_to_whole_weight(const LoraAdapter& adapter, const nn::Leaf& leaf) {
  const at::NoGradGuard no_grad;
  if (!adapter.origin) return std::make_unique<LoraAdapter>(leaf, adapter.down.detach(), adapter.up.detach(), adapter.alpha);
  const auto& [down, up] = *adapter.origin;
  return std::make_unique<LoraAdapter>(leaf, at::cat({adapter.down.detach(), down}, 0), at::cat({adapter.up.detach(), -up}, 1),
                                       2 * adapter.alpha);
}

std::unique_ptr<LoraAdapter> new_lora(const AdapterConfig& config, int64_t rank, double alpha, const nn::Leaf& leaf,
                                      const std::string& name, const Rng& rng) {
  std::vector<int64_t> down_shape = leaf.weight->shape, up_shape(down_shape.size(), 1);
  down_shape[0] = up_shape[1] = rank;
  up_shape[0] = leaf.weight->shape[0];
  const Tensor down = config.init == LoraInit::gaussian
                          ? nn::draw(nn::InitKind::normal, 1.0 / static_cast<double>(rank), down_shape, rng, name + ".lora_down")
                          : nn::draw(nn::InitKind::uniform_fan_in, 1, down_shape, rng, name + ".lora_down");
  auto adapter = std::make_unique<LoraAdapter>(leaf, down, at::zeros(up_shape, at::kFloat), alpha);
  adapter->dropout = dropout_of(config, name);
  return adapter;
}

}  // namespace emulsion::adapters
