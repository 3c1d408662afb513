#include "nn/leaf.h"

#include "nn/flops.h"
#include "nn/param_store.h"

namespace emulsion::nn {

Tensor Leaf::apply(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
  if (kind == LeafKind::embedding) return at::embedding(weight, x);
  Tensor y = kind == LeafKind::linear ? at::linear(x, weight, bias)
                                      : at::conv2d(x, weight, bias, {stride, stride}, {padding, padding});
  FlopCounter::add(2.0 * static_cast<double>(y.numel()) * static_cast<double>(weight.numel() / weight.size(0)));
  return y;
}

Tensor Leaf::forward(const Tensor& x) const {
  const Tensor& bias_value = bias ? bias->value : Tensor();
  if (adapters.empty()) return apply(x, weight->value, bias_value);

  Tensor input = x;
  Tensor w = weight->value;
  std::vector<Tensor> inputs;
  for (const LeafAdapter* adapter : adapters) {
    input = adapter->map_input(input);
    w = adapter->map_weight(w);
    inputs.push_back(input);
  }
  Tensor y = apply(input, w, bias_value);
  for (size_t i = adapters.size(); i-- > 0;) y = adapters[i]->map_output(y, inputs[i]);
  return y;
}

}  // namespace emulsion::nn
