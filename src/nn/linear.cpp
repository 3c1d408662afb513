#include "nn/linear.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "nn/attention_tiled.h"
#include "nn/linear_passes.h"

namespace emulsion::nn {
namespace {

using products::Matrices;
using products::Matrix;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kWidest = 16;  // lanes of any path

/// [..., K] as [M, K] whose rows have neighbouring numbers.
Tensor as_rows(const Tensor& x) {
  const Tensor rows = x.reshape({x.numel() / x.size(-1), x.size(-1)});
  return rows.stride(1) == 1 ? rows : rows.contiguous();
}

template <class E>
Matrix<const E> matrix(const Tensor& x) {
  return {x.const_data_ptr<E>(), x.stride(0), x.size(0), x.size(1)};
}

template <class E>
Matrices<const E> matrices(const variable_list& all) {
  Matrices<const E> result;
  for (const Tensor& x : all) result.push_back(matrix<E>(x));
  return result;
}

template <class E>
Matrix<E> writable(const Tensor& x) {
  return {x.mutable_data_ptr<E>(), x.stride(0), x.size(0), x.size(1)};
}

/// A linear layer of one or more weights; x [M, K] and the weights [N_i, K] are as `as_rows` makes them.
template <class E>
struct LinearPasses {
  const tiles::TileOps<E>& ops;
  variable_list weights;

  variable_list results(const Tensor& x, const variable_list& biases) const {
    std::vector<const E*> shifts;
    for (const Tensor& bias : biases) shifts.push_back(bias.const_data_ptr<E>());
    variable_list made;
    Matrices<E> to;
    for (const Tensor& weight : weights) {
      made.push_back(at::empty({x.size(0), weight.size(0)}, x.options()));
      to.push_back(writable<E>(made.back()));
    }
    products::forward<E>(ops, matrix<E>(x), matrices<E>(weights), shifts, to);
    return made;
  }

  Tensor input_gradient(const variable_list& gradients) const {
    const Tensor dx = at::empty({gradients[0].size(0), weights[0].size(1)}, gradients[0].options());
    products::input_gradient<E>(ops, matrices<E>(gradients), matrices<E>(weights), writable<E>(dx));
    return dx;
  }

  /// Those of the weights, then those of the biases.
  variable_list weight_gradients(const Tensor& x, const variable_list& gradients, bool biased) const {
    variable_list made;
    Matrices<E> to;
    std::vector<E*> sums;
    for (const Tensor& weight : weights) {
      made.push_back(at::empty(weight.sizes(), x.options()));
      to.push_back(writable<E>(made.back()));
    }
    for (size_t i = 0; biased && i < weights.size(); ++i) {
      made.push_back(at::empty({weights[i].size(0)}, x.options()));
      sums.push_back(made.back().template mutable_data_ptr<E>());
    }
    if (x.size(0) > 0) {
      products::weight_gradients<E>(ops, matrices<E>(gradients), matrix<E>(x), to, sums);
    } else {
      for (const Tensor& none : made) none.zero_();
    }
    return made;
  }
};

/// Calls f(passes) for the type of the weights.
template <class F>
auto with_passes(const variable_list& weights, const std::string& path, const F& f) {
  if (weights[0].scalar_type() == at::kDouble) return f(LinearPasses<double>{tiles::path_named<double>(path, "linear"), weights});
  return f(LinearPasses<float>{tiles::path_named<float>(path, "linear"), weights});
}

int64_t columns_in(const variable_list& weights) {
  int64_t columns = 0;
  for (const Tensor& weight : weights) columns += weight.size(0);
  return columns;
}

struct TiledLinears : torch::autograd::Function<TiledLinears> {
  /// `parameters`: all weights, then a bias for each, or none.
  static variable_list forward(AutogradContext* context, const Tensor& x, const at::TensorList& parameters, int64_t count,
                               const std::string& path) {
    const auto first = parameters.begin();
    variable_list weights, biases(first + count, parameters.end());
    for (int64_t i = 0; i < count; ++i) weights.push_back(as_rows(first[i]));
    for (Tensor& bias : biases) bias = bias.contiguous();
    RECORD_FUNCTION("emulsion::linear", std::vector<c10::IValue>({x, weights[0], columns_in(weights)}));
    const Tensor rows = as_rows(x);
    variable_list made = with_passes(weights, path, [&](const auto& passes) { return passes.results(rows, biases); });
    auto sizes = x.sizes().vec();
    for (Tensor& y : made) {
      sizes.back() = y.size(1);
      y.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
    }
    context->saved_data["sizes"] = x.sizes();
    context->saved_data["biased"] = !biases.empty();
    context->saved_data["path"] = path;
    const auto trains = [](const Tensor& parameter) { return parameter.requires_grad(); };
    weights.push_back(std::any_of(parameters.begin(), parameters.end(), trains) ? rows : Tensor());  // frozen ones need no input
    context->save_for_backward(std::move(weights));
    return made;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    EMULSION_CHECK(!at::GradMode::is_enabled(), unsupported,
                   "[linear] expected a first derivative, got a derivative of the gradient; use at::linear where it is needed");
    variable_list weights = context->get_saved_variables(), gradients;
    const Tensor rows = weights.back();
    weights.pop_back();
    for (const Tensor& gradient : grads) gradients.push_back(as_rows(gradient));
    const bool biased = context->saved_data["biased"].toBool(), by_input = context->needs_input_grad(0);
    const size_t parameters = weights.size() * (biased ? 2 : 1);
    bool by_weights = false;
    for (size_t i = 0; i < parameters; ++i) by_weights = by_weights || context->needs_input_grad(1 + i);
    RECORD_FUNCTION("emulsion::linear_backward",
                    std::vector<c10::IValue>({gradients[0], weights[0], columns_in(weights) * (by_input + by_weights)}));
    variable_list result(1 + parameters);
    with_passes(weights, context->saved_data["path"].toStringRef(), [&](const auto& passes) {
      if (by_input) result[0] = passes.input_gradient(gradients).view(context->saved_data["sizes"].toIntVector());
      if (!by_weights) return;
      const variable_list made = passes.weight_gradients(rows, gradients, biased);
      std::copy(made.begin(), made.end(), result.begin() + 1);
    });
    result.resize(result.size() + 2);  // the number of weights and the path
    return result;
  }
};

void check_linears(const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases) {
  EMULSION_CHECK(!weights.empty() && (biases.empty() || biases.size() == weights.size()), shape,
                 "[linear] expected a bias for each of {} weights or none, got {}", weights.size(), biases.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    const bool fits = x.dim() > 0 && weights[i].dim() == 2 && x.size(-1) == weights[i].size(1) && x.size(-1) % kWidest == 0 &&
                      weights[i].size(0) % kWidest == 0 && (biases.empty() || biases[i].numel() == weights[i].size(0));
    EMULSION_CHECK(fits, shape, "[linear] expected x [..., K], weight [N, K], bias [N], K and N multiples of {}, got [{}], [{}]{}",
                   kWidest, fmt::join(x.sizes(), ", "), fmt::join(weights[i].sizes(), ", "),
                   biases.empty() ? "" : fmt::format(", [{}]", fmt::join(biases[i].sizes(), ", ")));
  }
}

}  // namespace

std::vector<Tensor> tiled_linears(const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases,
                                  const std::string& path) {
  check_linears(x, weights, biases);
  std::vector<Tensor> parameters = weights;
  parameters.insert(parameters.end(), biases.begin(), biases.end());
  return TiledLinears::apply(x, at::TensorList(parameters), static_cast<int64_t>(weights.size()), path);
}

bool fits_tiled_linear(const Tensor& x, const Tensor& weight) {
  constexpr int64_t kFewestRows = 4;
  const auto multiple = [](int64_t n) { return n > 0 && n % kWidest == 0; };
  return x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat && x.dim() > 0 && weight.dim() == 2 &&
         multiple(weight.size(0)) && multiple(weight.size(1)) && x.numel() >= kFewestRows * weight.size(1) &&
         tiles::available<float>().size() > 1;
}

std::vector<Tensor> linears(const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases) {
  const bool fits = std::all_of(weights.begin(), weights.end(), [&](const Tensor& w) { return fits_tiled_linear(x, w); });
  if (fits) return tiled_linears(x, weights, biases, default_tile_path(at::kFloat));
  std::vector<Tensor> results;
  for (size_t i = 0; i < weights.size(); ++i) results.push_back(at::linear(x, weights[i], biases.empty() ? Tensor() : biases[i]));
  return results;
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (!fits_tiled_linear(x, weight)) return at::linear(x, weight, bias);
  return tiled_linears(x, {weight}, bias.defined() ? std::vector<Tensor>{bias} : std::vector<Tensor>{},
                       default_tile_path(at::kFloat))[0];
}

}  // namespace emulsion::nn
