#include "nn/winograd.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "nn/winograd_passes.h"

namespace emulsion::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const winograd::Ops& winograd_ops(const std::string& path) { return tiles::path_named<float>(path, "convolution"); }

struct WinogradConvolution : torch::autograd::Function<WinogradConvolution> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                        const std::string& path) {
    RECORD_FUNCTION("emulsion::convolution", std::vector<c10::IValue>({x, weight}));
    const winograd::Ops& ops = winograd_ops(path);
    // A frozen weight's gradient is not asked for, and the input's not by a frozen part: most of LoRA's memory.
    const bool by_weight = weight.requires_grad() || (bias && bias->requires_grad());
    context->save_for_backward({by_weight ? x : Tensor(), weight});
    context->saved_data["path"] = path;
    context->saved_data["bias"] = bias.has_value();
    return winograd::convolve(ops, x, winograd::pack_forward(ops, weight), bias.value_or(Tensor()));
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    EMULSION_CHECK(!at::GradMode::is_enabled(), unsupported,
                   "[convolution] expected a first derivative, got a derivative of the gradient; use at::conv2d where it is needed");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const bool bias = context->saved_data["bias"].toBool(), by_input = context->needs_input_grad(0),
               by_weight = context->needs_input_grad(1) || (bias && context->needs_input_grad(2));
    RECORD_FUNCTION("emulsion::convolution_backward", std::vector<c10::IValue>({grads[0], weight, by_input + by_weight}));
    const winograd::Ops& ops = winograd_ops(context->saved_data["path"].toStringRef());
    const Tensor gradient = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    Tensor dx;
    if (by_input) {
      dx = winograd::convolve(ops, gradient, winograd::pack_backward(ops, weight), Tensor());
    }
    winograd::WeightGradients dw;
    if (by_weight) dw = winograd::weight_gradients(ops, x, gradient);
    return {dx, dw.weight, bias ? dw.bias : Tensor(), {}};
  }
};

}  // namespace

bool fits_winograd(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding) {
  constexpr int64_t kFewestChannels = 16, kFewestTiles = 32;
  return stride == 1 && padding == 1 && x.is_cpu() && x.dim() == 4 && x.scalar_type() == at::kFloat &&
         weight.scalar_type() == at::kFloat && weight.size(2) == 3 && weight.size(3) == 3 &&
         std::min(weight.size(0), weight.size(1)) >= kFewestChannels &&
         x.size(0) * ((x.size(2) + 1) / 2) * ((x.size(3) + 1) / 2) >= kFewestTiles;
}

Tensor winograd_convolution(const Tensor& x, const Tensor& weight, const Tensor& bias, const std::string& path) {
  EMULSION_CHECK(x.dim() == 4 && weight.dim() == 4 && x.size(1) == weight.size(1) && weight.size(2) == 3 && weight.size(3) == 3,
                 shape, "[convolution] expected x [B, in, H, W] and weight [out, in, 3, 3], got [{}], [{}]",
                 fmt::join(x.sizes(), ", "), fmt::join(weight.sizes(), ", "));
  const auto last = at::MemoryFormat::ChannelsLast;
  return WinogradConvolution::apply(x.contiguous(last), weight.contiguous(last),
                                    bias.defined() ? std::optional(bias) : std::nullopt, path);
}

}  // namespace emulsion::nn
