#include "nn/layers.h"

#include "nn/kernels.h"

namespace emulsion::nn {
namespace {

const Leaf& declare_norm(const Scope& scope, int64_t width) {
  const Param& weight = scope.param("weight", {width});
  const Param& bias = scope.param("bias", {width});
  return scope.store().declare_leaf({.path = scope.path(), .kind = LeafKind::norm, .weight = &weight, .bias = &bias});
}

}  // namespace

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
    : leaf_(&declare_norm(scope, channels)), groups_(groups), eps_(eps) {}

Tensor GroupNorm::operator()(const Tensor& x) const {
  const auto [weight, bias] = leaf_->adapted();
  return kernels::group_norm(x, weight, bias, groups_, eps_, /*silu=*/false);
}

Tensor GroupNorm::then_silu(const Tensor& x) const {
  const auto [weight, bias] = leaf_->adapted();
  return kernels::group_norm(x, weight, bias, groups_, eps_, /*silu=*/true);
}

LayerNorm::LayerNorm(const Scope& scope, int64_t width, double eps)
    : leaf_(&declare_norm(scope, width)), width_(width), eps_(eps) {}

Tensor LayerNorm::operator()(const Tensor& x) const {
  const auto [weight, bias] = leaf_->adapted();
  return at::layer_norm(x, {width_}, weight, bias, eps_);
}

}  // namespace emulsion::nn
