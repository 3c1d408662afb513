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

bool has_loops(const Tensor& x) { return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16); }

/// Calls f(T()) with the type of x's numbers.
template <class F>
void with_type(const Tensor& x, const F& f) {
  x.scalar_type() == at::kFloat ? f(float()) : f(c10::BFloat16());
}

/// Images are handled in parallel, one thread each: with fewer images than threads, ATen's kernels are faster.
bool fits_fused_norm(const Tensor& x, const Tensor& weight) {
  return has_loops(x) && x.dim() == 4 && weight.scalar_type() == x.scalar_type() &&
         x.is_contiguous(at::MemoryFormat::ChannelsLast) && x.size(0) >= at::get_num_threads();
}

NormShape shape_of(const Tensor& x, int64_t groups) { return {x.size(2) * x.size(3), x.size(1), groups}; }

struct GroupNormFunction : Function<GroupNormFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t groups,
                        double eps, bool silu) {
    RECORD_USER_SCOPE("emulsion::group_norm");
    const NormShape shape = shape_of(x, groups);
    const Tensor factor = weight.to(at::kFloat), shift = bias.to(at::kFloat);
    Tensor y = at::empty_like(x);
    Tensor mean = at::empty({x.size(0), groups}, factor.options()), rstd = at::empty_like(mean);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          group_norm_forward<T>(shape, x.const_data_ptr<T>() + n * shape.size(), factor.const_data_ptr<float>(),
                                shift.const_data_ptr<float>(), static_cast<float>(eps), silu,
                                y.mutable_data_ptr<T>() + n * shape.size(), mean.mutable_data_ptr<float>() + n * groups,
                                rstd.mutable_data_ptr<float>() + n * groups);
        }
      });
    });
    context->save_for_backward({x, factor, shift, mean, rstd});
    context->saved_data["groups"] = groups;
    context->saved_data["silu"] = silu;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    RECORD_USER_SCOPE("emulsion::group_norm_backward");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &factor = saved[1], &shift = saved[2], &mean = saved[3], &rstd = saved[4];
    const int64_t groups = context->saved_data["groups"].toInt();
    const bool silu = context->saved_data["silu"].toBool();
    const NormShape shape = shape_of(x, groups);
    const Tensor dy = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    Tensor dx = at::empty_like(x);
    // A row of weight and bias gradients per image, added up afterwards in order: the same on any number of threads.
    Tensor dweight = at::empty({x.size(0), shape.channels}, factor.options()), dbias = at::empty_like(dweight);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          group_norm_backward<T>(shape, x.const_data_ptr<T>() + n * shape.size(), dy.const_data_ptr<T>() + n * shape.size(),
                                 factor.const_data_ptr<float>(), shift.const_data_ptr<float>(),
                                 mean.const_data_ptr<float>() + n * groups, rstd.const_data_ptr<float>() + n * groups, silu,
                                 dx.mutable_data_ptr<T>() + n * shape.size(),
                                 dweight.mutable_data_ptr<float>() + n * shape.channels,
                                 dbias.mutable_data_ptr<float>() + n * shape.channels);
        }
      });
    });
    return {dx, dweight.sum(0).to(x.scalar_type()), dbias.sum(0).to(x.scalar_type()), {}, {}, {}};
  }
};

struct GegluFunction : Function<GegluFunction> {
  static constexpr int64_t kGrain = 64;  // rows worth a thread

  static Tensor forward(AutogradContext* context, const Tensor& x) {
    RECORD_USER_SCOPE("emulsion::geglu");
    const int64_t width = x.size(-1) / 2, rows = x.numel() / x.size(-1);
    auto shape = x.sizes().vec();
    shape.back() = width;
    Tensor y = at::empty(shape, x.options());
    with_type(x, [&](auto type) {
      using T = decltype(type);
      at::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
        geglu_forward<T>(x.const_data_ptr<T>() + 2 * begin * width, end - begin, width, y.mutable_data_ptr<T>() + begin * width);
      });
    });
    context->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    RECORD_USER_SCOPE("emulsion::geglu_backward");
    const Tensor x = context->get_saved_variables()[0], dy = grads[0].contiguous();
    const int64_t width = x.size(-1) / 2, rows = x.numel() / x.size(-1);
    Tensor dx = at::empty_like(x);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      at::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
        geglu_backward<T>(x.const_data_ptr<T>() + 2 * begin * width, dy.const_data_ptr<T>() + begin * width, end - begin, width,
                          dx.mutable_data_ptr<T>() + 2 * begin * width);
      });
    });
    return {dx};
  }
};

struct QuickGeluFunction : Function<QuickGeluFunction> {
  static constexpr int64_t kGrain = 4096;  // numbers worth a thread

  static Tensor forward(AutogradContext* context, const Tensor& x) {
    RECORD_USER_SCOPE("emulsion::quick_gelu");
    Tensor y = at::empty_like(x);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
        quick_gelu_forward<T>(x.const_data_ptr<T>() + begin, end - begin, y.mutable_data_ptr<T>() + begin);
      });
    });
    context->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    RECORD_USER_SCOPE("emulsion::quick_gelu_backward");
    const Tensor x = context->get_saved_variables()[0], dy = grads[0].contiguous();
    Tensor dx = at::empty_like(x);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
        quick_gelu_backward<T>(x.const_data_ptr<T>() + begin, dy.const_data_ptr<T>() + begin, end - begin,
                               dx.mutable_data_ptr<T>() + begin);
      });
    });
    return {dx};
  }
};

bool fits_plain_loops(const Tensor& x) { return has_loops(x) && x.is_contiguous(); }

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
