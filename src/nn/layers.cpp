#include "nn/layers.h"

#include <cmath>
#include <limits>

#include "nn/flops.h"
#include "nn/kernels.h"

namespace emulsion::nn {

Linear::Linear(const Scope& scope, int64_t in, int64_t out, bool bias) {
  const Param& weight = scope.param("weight", {out, in});
  const Param* bias_param = bias ? &scope.param("bias", {out}) : nullptr;
  leaf_ = &scope.store().declare_leaf(
      {.path = scope.path(), .kind = LeafKind::linear, .weight = &weight, .bias = bias_param});
}

Conv2d::Conv2d(const Scope& scope, int64_t in, int64_t out, int64_t kernel, int64_t stride,
               int64_t padding) {
  const Param& weight = scope.param("weight", {out, in, kernel, kernel});
  const Param& bias = scope.param("bias", {out});
  leaf_ = &scope.store().declare_leaf({.path = scope.path(),
                                       .kind = LeafKind::conv2d,
                                       .weight = &weight,
                                       .bias = &bias,
                                       .stride = stride,
                                       .padding = padding});
}

Embedding::Embedding(const Scope& scope, int64_t count, int64_t width) {
  const Param& weight = scope.param("weight", {count, width});
  leaf_ = &scope.store().declare_leaf(
      {.path = scope.path(), .kind = LeafKind::embedding, .weight = &weight});
}

GroupNorm::GroupNorm(const Scope& scope, int64_t groups, int64_t channels, double eps)
    : weight_(&scope.param("weight", {channels})),
      bias_(&scope.param("bias", {channels})),
      groups_(groups),
      eps_(eps) {}

Tensor GroupNorm::operator()(const Tensor& x) const {
  return kernels::group_norm(x, weight_->value, bias_->value, groups_, eps_, /*silu=*/false);
}

Tensor GroupNorm::then_silu(const Tensor& x) const {
  return kernels::group_norm(x, weight_->value, bias_->value, groups_, eps_, /*silu=*/true);
}

LayerNorm::LayerNorm(const Scope& scope, int64_t width, double eps)
    : weight_(&scope.param("weight", {width})),
      bias_(&scope.param("bias", {width})),
      width_(width),
      eps_(eps) {}

Tensor LayerNorm::operator()(const Tensor& x) const {
  return at::layer_norm(x, {width_}, weight_->value, bias_->value, eps_);
}

namespace {

// Largest matrix of attention weights that is formed whole. ATen's tiled kernel has a slow backward on CPUs (bfloat16
// above all: several times the cost of these three products at up to a few hundred positions), but never forms it.
constexpr int64_t kWholeBytes = int64_t{64} << 20;

/// softmax(q k^T / sqrt(d)) v with the weights formed. q [N, L, d], k and v [N, S, d].
Tensor attention_whole(const Tensor& q, const Tensor& k, const Tensor& v, bool causal) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(2)));
  Tensor logits = at::bmm(q * scale, k.transpose(1, 2));
  if (causal) {
    const Tensor later = at::ones({q.size(1), k.size(1)}, q.options().dtype(at::kBool)).triu_(1);
    logits = logits.masked_fill(later, -std::numeric_limits<double>::infinity());
  }
  return at::bmm(at::softmax(logits, -1), v);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, bool causal) {
  FlopCounter::add(4.0 * static_cast<double>(q.numel()) * static_cast<double>(k.size(1)));
  const int64_t batch = q.size(0), width = q.size(2) / heads;
  const auto split = [&](const Tensor& x) {  // [B,L,D] -> [B,heads,L,d]
    return x.view({batch, x.size(1), heads, width}).transpose(1, 2);
  };
  const int64_t whole = batch * heads * q.size(1) * k.size(1) * static_cast<int64_t>(q.element_size());
  if (q.is_cpu() && whole <= kWholeBytes) {
    const auto flat = [&](const Tensor& x) { return split(x).reshape({batch * heads, x.size(1), width}); };
    const Tensor out = attention_whole(flat(q), flat(k), flat(v), causal);
    return out.view({batch, heads, q.size(1), width}).transpose(1, 2).reshape(q.sizes());
  }
  const Tensor out = at::scaled_dot_product_attention(split(q), split(k), split(v), {}, 0.0, causal);
  return out.transpose(1, 2).reshape(q.sizes());
}

}  // namespace emulsion::nn
