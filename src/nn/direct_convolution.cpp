#include "nn/direct_convolution.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "nn/direct_passes.h"

namespace emulsion::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kFullLanes = 16;

const direct::Ops& direct_ops(const std::string& path) { return tiles::path_named<c10::BFloat16>(path, "convolution"); }

struct DirectConvolution : torch::autograd::Function<DirectConvolution> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                        const std::string& path) {
    RECORD_FUNCTION("emulsion::direct_convolution", std::vector<c10::IValue>({x, weight}));
    const bool by_weight = weight.requires_grad() || (bias && bias->requires_grad());
    context->save_for_backward({by_weight ? x : Tensor(), weight});
    context->saved_data["path"] = path;
    context->saved_data["bias"] = bias.has_value();
    return direct::convolve(direct_ops(path), x, weight, bias.value_or(Tensor()));
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    EMULSION_CHECK(!at::GradMode::is_enabled(), unsupported,
                   "[convolution] expected a first derivative, got a derivative of the gradient; use at::conv2d where it is needed");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], gradient = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    const bool bias = context->saved_data["bias"].toBool();
    Tensor dx, dw, db;
    if (context->needs_input_grad(0)) {
      RECORD_FUNCTION("emulsion::direct_convolution_backward", std::vector<c10::IValue>({gradient, weight}));
      dx = direct::input_gradient(direct_ops(context->saved_data["path"].toStringRef()), gradient, weight);
    }
    if (x.defined()) {
      std::tie(std::ignore, dw, db) = at::convolution_backward(gradient, x, weight, at::IntArrayRef{weight.size(0)}, {1, 1}, {1, 1},
                                                               {1, 1}, false, {0, 0}, 1, {false, true, bias});
    }
    return {dx, dw, db, {}};
  }
};

}  // namespace

bool fits_direct_convolution(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding) {
  const auto full = [](int64_t channels) { return channels > 0 && channels % kFullLanes == 0; };
  return stride == 1 && padding == 1 && x.is_cpu() && x.dim() == 4 && x.scalar_type() == at::kBFloat16 &&
         weight.scalar_type() == at::kBFloat16 && weight.size(2) == 3 && weight.size(3) == 3 && full(weight.size(0)) &&
         full(weight.size(1)) && tiles::available<c10::BFloat16>().size() > 1;
}

Tensor direct_convolution(const Tensor& x, const Tensor& weight, const Tensor& bias, const std::string& path) {
  const bool fits = x.dim() == 4 && weight.dim() == 4 && x.size(1) == weight.size(1) && weight.size(2) == 3 &&
                    weight.size(3) == 3 && weight.size(0) % kFullLanes == 0 && weight.size(1) % kFullLanes == 0;
  EMULSION_CHECK(fits, shape,
                 "[convolution] expected x [B, in, H, W] and weight [out, in, 3, 3] with multiples of {} channels, got [{}], [{}]",
                 kFullLanes, fmt::join(x.sizes(), ", "), fmt::join(weight.sizes(), ", "));
  const auto last = at::MemoryFormat::ChannelsLast;
  return DirectConvolution::apply(x.contiguous(last), weight.contiguous(last),
                                  bias.defined() ? std::optional(bias.contiguous()) : std::nullopt, path);
}

}  // namespace emulsion::nn
