#include "nn/attention_tiled.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "nn/attention_passes.h"

namespace emulsion::nn {
namespace {

using tiles::AttentionGradients;
using tiles::AttentionInputs;
using tiles::AttentionResult;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kPairs = "pairs";

template <class E>
const tiles::TileOps<E>& ops_named(const std::string& path) {
  return tiles::path_named<E>(path, "attention");
}

/// Calls f<element type of the tensors, of the tiles>(ops).
template <class F>
auto with_ops(at::ScalarType dtype, const std::string& path, const F& f) {
  using at::BFloat16;
  if (dtype == at::kDouble) return f.template operator()<double, double>(ops_named<double>(path));
  if (dtype == at::kFloat) return f.template operator()<float, float>(ops_named<float>(path));
  if (path == "brgemm" || path == kPairs) return f.template operator()<BFloat16, BFloat16>(ops_named<BFloat16>(path));
  return f.template operator()<BFloat16, float>(ops_named<float>(path));
}

AttentionResult forward_pass(const AttentionInputs& in, const std::string& path) {
  if (in.q.numel() == 0 || in.keys() == 0) return {at::zeros(in.q.sizes(), in.q.options()), at::zeros({0})};
  return with_ops(in.q.scalar_type(), path,
                  [&]<class T, class E>(const tiles::TileOps<E>& ops) { return tiles::attention_forward<T>(ops, in); });
}

AttentionGradients backward_pass(const AttentionInputs& in, const AttentionResult& result, const Tensor& gradient,
                                 const std::string& path) {
  if (in.q.numel() == 0 || in.keys() == 0) return {at::zeros_like(in.q), at::zeros_like(in.k), at::zeros_like(in.v)};
  return with_ops(in.q.scalar_type(), path, [&]<class T, class E>(const tiles::TileOps<E>& ops) {
    return tiles::attention_backward<T>(ops, in, result, gradient);
  });
}

struct TiledAttention : torch::autograd::Function<TiledAttention> {
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& added,
                        int64_t heads, bool causal, const std::string& path) {
    RECORD_FUNCTION("emulsion::attention", std::vector<c10::IValue>({q, k}));
    const AttentionResult result = forward_pass({q, k, v, added.value_or(Tensor()), heads, causal}, path);
    context->save_for_backward({q, k, v, added.value_or(Tensor()), result.output, result.statistics});
    context->saved_data["heads"] = heads;
    context->saved_data["causal"] = causal;
    context->saved_data["path"] = path;
    return result.output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    EMULSION_CHECK(!at::GradMode::is_enabled(), unsupported,
                   "[attention] expected a first derivative, got a derivative of the gradient; "
                   "write the attention with elementary operations where it is needed");
    const auto saved = context->get_saved_variables();
    const AttentionInputs in = {saved[0], saved[1], saved[2], saved[3], context->saved_data["heads"].toInt(),
                                context->saved_data["causal"].toBool()};
    RECORD_FUNCTION("emulsion::attention_backward", std::vector<c10::IValue>({in.q, in.k}));
    const Tensor gradient = grads[0].stride(-1) == 1 ? grads[0] : grads[0].contiguous();
    const AttentionGradients result =
        backward_pass(in, {saved[4], saved[5]}, gradient, context->saved_data["path"].toStringRef());
    return {result.q, result.k, result.v, {}, {}, {}, {}};
  }
};

/// Rows where they lie if their elements are neighbours.
Tensor with_whole_rows(const Tensor& x) { return x.stride(-1) == 1 || x.size(-1) == 1 ? x : x.contiguous(); }

std::optional<Tensor> expanded(const Tensor& added, const Tensor& q, const Tensor& k, int64_t heads) {
  if (!added.defined()) return {};
  EMULSION_CHECK(!added.requires_grad(), unsupported,
                 "[attention] expected a mask without gradient, got one that requires it; detach it");
  return added.to(q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat)
      .expand({q.size(0), heads, q.size(1), k.size(1)});
}

}  // namespace

std::vector<std::string> tile_paths(at::ScalarType dtype) {
  std::vector<std::string> names;
  if (dtype == at::kDouble) return {"portable"};
  if (dtype == at::kBFloat16) {
    for (const auto& ops : tiles::available<at::BFloat16>()) names.emplace_back(ops.name);
  }
  for (const auto& ops : tiles::available<float>()) names.emplace_back(ops.name);
  return names;
}

std::string default_tile_path(at::ScalarType dtype) {
  for (const std::string& path : tile_paths(dtype)) {
    if (path != kPairs) return path;
  }
  return "portable";
}

Tensor tiled_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, const AttentionMask& mask,
                       const std::string& path) {
  const auto dtype = q.scalar_type();
  EMULSION_CHECK(q.dim() == 3 && k.dim() == 3 && k.sizes() == v.sizes() && q.size(0) == k.size(0) && q.size(2) == k.size(2) &&
                     q.size(2) % heads == 0,
                 shape, "[attention] expected q [B, L, D], k and v [B, S, D], D a multiple of {} heads, got [{}], [{}], [{}]", heads,
                 fmt::join(q.sizes(), ", "), fmt::join(k.sizes(), ", "), fmt::join(v.sizes(), ", "));
  EMULSION_CHECK(k.scalar_type() == dtype && v.scalar_type() == dtype, shape,
                 "[attention] expected one dtype for q, k and v, got {}, {}, {}", c10::toString(dtype),
                 c10::toString(k.scalar_type()), c10::toString(v.scalar_type()));
  return TiledAttention::apply(with_whole_rows(q), with_whole_rows(k), with_whole_rows(v), expanded(mask.added, q, k, heads), heads,
                               mask.causal, path);
}

}  // namespace emulsion::nn
