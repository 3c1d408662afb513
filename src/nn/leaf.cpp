#include "nn/leaf.h"

#include <utility>

#include "nn/attention_tiled.h"
#include "nn/direct_convolution.h"
#include "nn/flops.h"
#include "nn/gathered_convolution.h"
#include "nn/param_store.h"
#include "nn/winograd.h"

namespace emulsion::nn {
namespace {

thread_local bool untouched = false;

/// A 1 x 1 convolution of whole pictures is a matrix product over their pixels.
bool is_product(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding) {
  return weight.size(2) == 1 && weight.size(3) == 1 && stride == 1 && padding == 0 &&
         x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

Tensor convolution(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t stride, int64_t padding) {
  if (is_product(x, weight, stride, padding)) {
    return nn::linear(x.permute({0, 2, 3, 1}), weight.flatten(1), bias).permute({0, 3, 1, 2});
  }
  if (fits_gathered_convolution(x, weight, stride, padding)) return gathered_convolution(x, weight, bias);
  if (fits_winograd(x, weight, stride, padding)) return winograd_convolution(x, weight, bias, default_tile_path(at::kFloat));
  if (fits_direct_convolution(x, weight, stride, padding)) {
    return direct_convolution(x, weight, bias, default_tile_path(at::kBFloat16));
  }
  return at::conv2d(x, weight, bias, {stride, stride}, {padding, padding});
}

Tensor updated_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const LowRank& update) {
  FlopCounter::add(2.0 * static_cast<double>(x.numel()) * static_cast<double>(weight.size(0) + update.down.size(0)));
  return nn::linear(x, weight, bias, update);
}

/// Ids beyond the table take theirs from `rows`, which alone get a gradient there: the table is neither copied nor filled.
Tensor looked_up(const Tensor& ids, const Tensor& table, const Tensor& rows) {
  const Tensor beyond = ids - table.size(0);
  const Tensor from_table = at::embedding(table, ids.clamp_max(table.size(0) - 1));
  const Tensor from_rows = at::embedding(rows.to(table.options()), beyond.clamp_min(0));
  return at::where(beyond.ge(0).unsqueeze(-1), from_rows, from_table);
}

}  // namespace

WithoutAdapters::WithoutAdapters() : before_(std::exchange(untouched, true)) {}
WithoutAdapters::~WithoutAdapters() { untouched = before_; }

Tensor Leaf::apply(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
  if (kind == LeafKind::embedding) return at::embedding(weight, x);
  Tensor y = kind == LeafKind::linear ? nn::linear(x, weight, bias) : convolution(x, weight, bias, stride, padding);
  FlopCounter::add(2.0 * static_cast<double>(y.numel()) * static_cast<double>(weight.numel() / weight.size(0)));
  return y;
}

std::pair<Tensor, Tensor> Leaf::adapted() const {
  std::pair<Tensor, Tensor> all(weight->value, bias ? bias->value : Tensor());
  if (untouched) return all;
  for (const LeafAdapter* adapter : adapters) all = {adapter->map_weight(all.first), adapter->map_bias(all.second)};
  return all;
}

Tensor Leaf::forward(const Tensor& x) const {
  const Tensor& bias_value = bias ? bias->value : Tensor();
  if (adapters.empty() || untouched) return apply(x, weight->value, bias_value);
  if (kind == LeafKind::linear && adapters.size() == 1) {
    if (const auto update = adapters[0]->low_rank()) return updated_linear(x, weight->value, bias_value, *update);
  }

  Tensor input = x;
  std::vector<Tensor> inputs;
  for (const LeafAdapter* adapter : adapters) {
    input = adapter->map_input(input);
    inputs.push_back(input);
  }
  const auto [w, b] = adapted();
  std::vector<Tensor> rows;
  for (const LeafAdapter* adapter : adapters) {
    if (auto more = adapter->more_rows()) rows.push_back(std::move(*more));
  }
  Tensor y = rows.empty() ? apply(input, w, b) : looked_up(input, w, at::cat(rows));
  for (size_t i = adapters.size(); i-- > 0;) y = adapters[i]->map_output(y, inputs[i]);
  return y;
}

}  // namespace emulsion::nn
