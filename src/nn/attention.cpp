#include "nn/attention.h"

#include "nn/attention_tiled.h"
#include "nn/flops.h"

namespace emulsion::nn {
namespace {

bool fits_tiles(const Tensor& q) {
  const auto dtype = q.scalar_type();
  return q.is_cpu() && (dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kDouble);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, const AttentionMask& mask) {
  FlopCounter::add(4.0 * static_cast<double>(q.numel()) * static_cast<double>(k.size(1)));
  if (fits_tiles(q)) return tiled_attention(q, k, v, heads, mask, default_tile_path(q.scalar_type()));
  const auto split = [&](const Tensor& x) {  // [B, L, D] -> [B, heads, L, d]
    return x.unflatten(2, {heads, x.size(2) / heads}).transpose(1, 2);
  };
  std::optional<Tensor> added;
  if (mask.added.defined()) added = mask.added.to(q.scalar_type());
  const Tensor out = at::scaled_dot_product_attention(split(q), split(k), split(v), added, 0.0, mask.causal);
  return out.transpose(1, 2).reshape(q.sizes());
}

}  // namespace emulsion::nn
