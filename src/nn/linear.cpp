#include "nn/linear.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "nn/attention_tiled.h"
#include "nn/linear_passes.h"

namespace emulsion::nn {
namespace {

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
Matrix<E> writable(const Tensor& x) {
  return {x.mutable_data_ptr<E>(), x.stride(0), x.size(0), x.size(1)};
}

/// Left and right operand of a product.
using Operands = std::pair<Tensor, Tensor>;

/// The passes over tensors of one type, all as `as_rows` makes them.
template <class E>
struct LinearPasses {
  const tiles::TileOps<E>& ops;

  static products::Terms<E> terms(const std::vector<Operands>& operands) {
    products::Terms<E> result;
    for (const auto& [left, right] : operands) result.push_back({matrix<E>(left), matrix<E>(right)});
    return result;
  }

  /// The sum of left right^T, plus the bias if there is one.
  Tensor forward(const std::vector<Operands>& operands, const Tensor& bias) const {
    const Tensor y = at::empty({operands[0].first.size(0), operands[0].second.size(0)}, operands[0].first.options());
    products::forward<E>(ops, terms(operands), bias.defined() ? bias.const_data_ptr<E>() : nullptr, writable<E>(y));
    return y;
  }

  /// The sum of left right.
  Tensor input_gradient(const std::vector<Operands>& operands) const {
    const Tensor dx = at::empty({operands[0].first.size(0), operands[0].second.size(1)}, operands[0].first.options());
    products::input_gradient<E>(ops, terms(operands), writable<E>(dx));
    return dx;
  }

  /// left^T right, in the type of the sums.
  Tensor weight_gradient(const Tensor& left, const Tensor& right) const {
    const auto options = right.options().dtype(c10::CppTypeToScalarType<products::Sum<E>>::value);
    if (left.size(0) == 0) return at::zeros({left.size(1), right.size(1)}, options);
    const Tensor result = at::empty({left.size(1), right.size(1)}, options);
    products::weight_gradient<E>(ops, matrix<E>(left), matrix<E>(right), writable<products::Sum<E>>(result));
    return result;
  }

  Tensor bias_gradient(const Tensor& dy) const {
    if constexpr (std::is_same_v<E, c10::BFloat16>) {
      return dy.sum(0);
    } else {
      const Tensor sums = at::empty({dy.size(1)}, dy.options());
      products::bias_gradient<E>(matrix<E>(dy), sums.mutable_data_ptr<E>());
      return sums;
    }
  }
};

/// Calls f(passes) for a type of elements.
template <class F>
auto with_passes(at::ScalarType dtype, const std::string& path, const F& f) {
  switch (dtype) {
    case at::kDouble: return f(LinearPasses<double>{tiles::path_named<double>(path, "linear")});
    case at::kBFloat16: return f(LinearPasses<c10::BFloat16>{tiles::path_named<c10::BFloat16>(path, "linear")});
    default: return f(LinearPasses<float>{tiles::path_named<float>(path, "linear")});
  }
}

/// x in that type, made up with zeros to a multiple of kWidest rows or columns.
Tensor whole_ranks(const Tensor& x, int64_t dim, at::ScalarType dtype) {
  const int64_t rank = x.size(dim), whole = (rank + kWidest - 1) / kWidest * kWidest;
  if (rank == whole) return x.to(dtype).contiguous();
  auto sizes = x.sizes().vec();
  sizes[static_cast<size_t>(dim)] = whole;
  const Tensor result = at::zeros(sizes, x.options().dtype(dtype));
  result.narrow(dim, 0, rank).copy_(x);
  return result;
}

struct TiledLinear : torch::autograd::Function<TiledLinear> {
  enum Input { kX, kWeight, kBias, kDown, kUp, kScale, kPath, kInputs };

  /// `down`, `up`, `scale`: of a LowRank, if there is one.
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias_in,
                        const std::optional<Tensor>& down_in, const std::optional<Tensor>& up_in, double scale,
                        const std::string& path) {
    const Tensor bias = bias_in.value_or(Tensor()), down = down_in.value_or(Tensor()), up = up_in.value_or(Tensor());
    const auto dtype = x.scalar_type();
    const int64_t rank = down.defined() ? down.size(0) : 0;
    RECORD_FUNCTION("emulsion::linear", std::vector<c10::IValue>({x, weight, weight.size(0) + rank}));
    const Tensor rows = as_rows(x), matrix = as_rows(weight);
    Tensor inner, narrow, wide;  // x down^T, down, scale up
    const Tensor y = with_passes(dtype, path, [&](const auto& passes) {
      std::vector<Operands> operands = {{rows, matrix}};
      if (rank > 0) {
        narrow = whole_ranks(down, 0, dtype);
        wide = whole_ranks(scale == 1 ? up : up * scale, 1, dtype);
        inner = passes.forward({{rows, narrow}}, {});
        operands.emplace_back(inner, wide);
      }
      return passes.forward(operands, bias.defined() ? bias.contiguous() : bias);
    });
    auto sizes = x.sizes().vec();
    sizes.back() = y.size(1);
    y.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
    context->saved_data["sizes"] = x.sizes();
    context->saved_data["rank"] = rank;
    context->saved_data["biased"] = bias.defined();
    context->saved_data["scale"] = scale;
    context->saved_data["path"] = path;
    const bool keeps_rows = weight.requires_grad() || (rank > 0 && down.requires_grad());  // else nobody needs them
    context->save_for_backward({keeps_rows ? rows : Tensor(), matrix, inner, narrow, wide});
    return y;
  }

  /// Optional inputs that are not there have no number of their own.
  static bool wants(const AutogradContext& context, Input input) {
    const bool biased = context.saved_data.at("biased").toBool(), ranked = context.saved_data.at("rank").toInt() > 0;
    if ((input == kBias && !biased) || (input >= kDown && !ranked)) return false;
    return context.needs_input_grad(static_cast<size_t>(input > kBias && !biased ? input - 1 : input));
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    EMULSION_CHECK(!at::GradMode::is_enabled(), unsupported,
                   "[linear] expected a first derivative, got a derivative of the gradient; use at::linear where it is needed");
    const variable_list saved = context->get_saved_variables();
    const Tensor &rows = saved[0], &matrix = saved[1], &inner = saved[2], &narrow = saved[3], &wide = saved[4];
    const Tensor dy = as_rows(grads[0]);
    const int64_t rank = context->saved_data["rank"].toInt();
    const auto wanted = [&](Input input) { return wants(*context, input); };
    const int64_t products = wanted(kX) + wanted(kWeight);
    RECORD_FUNCTION("emulsion::linear_backward", std::vector<c10::IValue>({dy, matrix, matrix.size(0) * products + 3 * rank}));
    variable_list result(kInputs);
    with_passes(dy.scalar_type(), context->saved_data["path"].toStringRef(), [&](const auto& passes) {
      std::vector<Operands> operands = {{dy, matrix}};
      if (rank > 0 && (wanted(kX) || wanted(kDown))) operands.emplace_back(passes.input_gradient({{dy, wide}}), narrow);
      if (wanted(kX)) result[kX] = passes.input_gradient(operands).view(context->saved_data["sizes"].toIntVector());
      if (wanted(kWeight)) result[kWeight] = passes.weight_gradient(dy, rows).to(matrix.scalar_type());
      if (wanted(kBias)) result[kBias] = passes.bias_gradient(dy);
      if (wanted(kDown)) result[kDown] = passes.weight_gradient(operands.back().first, rows).narrow(0, 0, rank);
      if (wanted(kUp)) {
        result[kUp] = passes.weight_gradient(inner, dy).narrow(0, 0, rank).t() * context->saved_data["scale"].toDouble();
      }
    });
    return result;
  }
};

void check_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const LowRank& update) {
  const bool fits = x.dim() > 0 && weight.dim() == 2 && x.size(-1) == weight.size(1) && x.size(-1) % kWidest == 0 &&
                    weight.size(0) % kWidest == 0 && (!bias.defined() || bias.numel() == weight.size(0));
  EMULSION_CHECK(fits, shape, "[linear] expected x [..., K], weight [N, K], bias [N], K and N multiples of {}, got [{}], [{}]{}",
                 kWidest, fmt::join(x.sizes(), ", "), fmt::join(weight.sizes(), ", "),
                 bias.defined() ? fmt::format(", [{}]", fmt::join(bias.sizes(), ", ")) : "");
  if (!update.down.defined()) return;
  const Tensor &down = update.down, &up = update.up;
  EMULSION_CHECK(down.dim() == 2 && up.dim() == 2 && down.size(1) == weight.size(1) && up.size(0) == weight.size(0) &&
                     down.size(0) == up.size(1) && down.size(0) > 0,
                 shape, "[linear] expected down [r, K] and up [N, r] for weight [{}], got [{}] and [{}]",
                 fmt::join(weight.sizes(), ", "), fmt::join(down.sizes(), ", "), fmt::join(up.sizes(), ", "));
}

Tensor aten_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const LowRank& update) {
  const Tensor y = at::linear(x, weight, bias);
  if (!update.down.defined()) return y;
  const Tensor inner = at::linear(x, update.down.to(x.scalar_type()));
  return at::add(y, at::linear(inner, update.up.to(x.scalar_type())), update.scale);
}

}  // namespace

Tensor tiled_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const LowRank& update, const std::string& path) {
  check_linear(x, weight, bias, update);
  const auto given = [](const Tensor& t) { return t.defined() ? std::optional(t) : std::nullopt; };
  return TiledLinear::apply(x, weight, given(bias), given(update.down), given(update.up), update.scale, path);
}

bool fits_tiled_linear(const Tensor& x, const Tensor& weight) {
  constexpr int64_t kFewestRows = 4;
  const auto multiple = [](int64_t n) { return n > 0 && n % kWidest == 0; };
  const auto dtype = x.scalar_type();
  const bool fast = (dtype == at::kFloat && tiles::available<float>().size() > 1) ||
                    (dtype == at::kBFloat16 && tiles::available<c10::BFloat16>().size() > 1);
  return fast && x.is_cpu() && weight.scalar_type() == dtype && x.dim() > 0 && weight.dim() == 2 && multiple(weight.size(0)) &&
         multiple(weight.size(1)) && x.numel() >= kFewestRows * weight.size(1);
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const LowRank& update) {
  if (!fits_tiled_linear(x, weight)) return aten_linear(x, weight, bias, update);
  return tiled_linear(x, weight, bias, update, default_tile_path(x.scalar_type()));
}

}  // namespace emulsion::nn
