// The fused operations: autograd functions around the loops of kernel_loops.cpp.
#include "nn/kernels.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "nn/kernel_loops.h"

namespace emulsion::nn::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

/// Images are handled in parallel, one thread each: with fewer images than threads, ATen's kernels are faster.
bool fits_fused_norm(const Tensor& x, const Tensor& weight) {
  return x.is_cpu() && x.dim() == 4 && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat &&
         x.is_contiguous(at::MemoryFormat::ChannelsLast) && x.size(0) >= at::get_num_threads();
}

NormShape shape_of(const Tensor& x, int64_t groups) { return {x.size(2) * x.size(3), x.size(1), groups}; }

struct GroupNormFunction : Function<GroupNormFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t groups,
                        double eps, bool silu) {
    RECORD_USER_SCOPE("emulsion::group_norm");
    const NormShape shape = shape_of(x, groups);
    Tensor y = at::empty_like(x);
    Tensor mean = at::empty({x.size(0), groups}, x.options()), rstd = at::empty_like(mean);
    const float* in = x.const_data_ptr<float>();
    at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        group_norm_forward(shape, in + n * shape.size(), weight.const_data_ptr<float>(), bias.const_data_ptr<float>(),
                           static_cast<float>(eps), silu, y.mutable_data_ptr<float>() + n * shape.size(),
                           mean.mutable_data_ptr<float>() + n * groups, rstd.mutable_data_ptr<float>() + n * groups);
      }
    });
    context->save_for_backward({x, weight, bias, mean, rstd});
    context->saved_data["groups"] = groups;
    context->saved_data["silu"] = silu;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &mean = saved[3], &rstd = saved[4];
    const int64_t groups = context->saved_data["groups"].toInt();
    const bool silu = context->saved_data["silu"].toBool();
    const NormShape shape = shape_of(x, groups);
    const Tensor dy = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    Tensor dx = at::empty_like(x);
    // A row of weight and bias gradients per image, added up afterwards in order: the same on any number of threads.
    Tensor dweight = at::empty({x.size(0), shape.channels}, x.options()), dbias = at::empty_like(dweight);
    at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        group_norm_backward(shape, x.const_data_ptr<float>() + n * shape.size(), dy.const_data_ptr<float>() + n * shape.size(),
                            weight.const_data_ptr<float>(), bias.const_data_ptr<float>(),
                            mean.const_data_ptr<float>() + n * groups, rstd.const_data_ptr<float>() + n * groups, silu,
                            dx.mutable_data_ptr<float>() + n * shape.size(),
                            dweight.mutable_data_ptr<float>() + n * shape.channels,
                            dbias.mutable_data_ptr<float>() + n * shape.channels);
      }
    });
    return {dx, dweight.sum(0), dbias.sum(0), {}, {}, {}};
  }
};

struct GegluFunction : Function<GegluFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& x) {
    RECORD_USER_SCOPE("emulsion::geglu");
    const int64_t width = x.size(-1) / 2, rows = x.numel() / x.size(-1);
    auto shape = x.sizes().vec();
    shape.back() = width;
    Tensor y = at::empty(shape, x.options());
    const float* in = x.const_data_ptr<float>();
    float* out = y.mutable_data_ptr<float>();
    at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) geglu_forward(in + 2 * i * width, width, out + i * width);
    });
    context->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const Tensor x = context->get_saved_variables()[0], dy = grads[0].contiguous();
    const int64_t width = x.size(-1) / 2, rows = x.numel() / x.size(-1);
    Tensor dx = at::empty_like(x);
    const float *in = x.const_data_ptr<float>(), *dout = dy.const_data_ptr<float>();
    float* din = dx.mutable_data_ptr<float>();
    at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) geglu_backward(in + 2 * i * width, dout + i * width, width, din + 2 * i * width);
    });
    return {dx};
  }
};

struct QuickGeluFunction : Function<QuickGeluFunction> {
  static constexpr int64_t kGrain = 4096;  // numbers worth a thread

  static Tensor forward(AutogradContext* context, const Tensor& x) {
    RECORD_USER_SCOPE("emulsion::quick_gelu");
    Tensor y = at::empty_like(x);
    const float* in = x.const_data_ptr<float>();
    float* out = y.mutable_data_ptr<float>();
    at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
      quick_gelu_forward(in + begin, end - begin, out + begin);
    });
    context->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const Tensor x = context->get_saved_variables()[0], dy = grads[0].contiguous();
    Tensor dx = at::empty_like(x);
    const float *in = x.const_data_ptr<float>(), *dout = dy.const_data_ptr<float>();
    float* din = dx.mutable_data_ptr<float>();
    at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
      quick_gelu_backward(in + begin, dout + begin, end - begin, din + begin);
    });
    return {dx};
  }
};

bool fits_plain_loops(const Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous(); }

}  // namespace

Tensor group_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t groups, double eps,
                  bool silu) {
  if (fits_fused_norm(x, weight)) return GroupNormFunction::apply(x, weight, bias, groups, eps, silu);
  const Tensor y = at::group_norm(x, groups, weight, bias, eps);
  return silu ? at::silu(y) : y;
}

Tensor geglu(const Tensor& x) {
  if (fits_plain_loops(x)) return GegluFunction::apply(x);
  const auto halves = x.chunk(2, -1);
  return halves[0] * at::gelu(halves[1]);
}


Tensor quick_gelu(const Tensor& x) {
  return fits_plain_loops(x) ? QuickGeluFunction::apply(x) : x * at::sigmoid(1.702 * x);
}

}  // namespace emulsion::nn::kernels
