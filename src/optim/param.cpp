#include "optim/param.h"

#include "core/error.h"

namespace emulsion::optim {

Tensor in_memory(const Tensor& x) { return x.defined() ? x.as_strided({x.numel()}, {1}) : x; }

namespace {

constexpr int kLowBits = 16;  // of a float32, which bfloat16 lacks

void check_follower(const Param& param, const Tensor& follower, at::ScalarType dtype, const char* what) {
  if (!follower.defined()) return;
  const Tensor& weight = held(param);
  EMULSION_CHECK(follower.scalar_type() == dtype && follower.sizes() == weight.sizes() && follower.strides() == weight.strides(),
                 internal, "[optimizer] {}: expected a {} of type {}, shape [{}], strides [{}], got {}, [{}], [{}]", param.name, what,
                 at::toString(dtype), fmt::join(weight.sizes(), ","), fmt::join(weight.strides(), ","),
                 at::toString(follower.scalar_type()), fmt::join(follower.sizes(), ","), fmt::join(follower.strides(), ","));
}

/// The same numbers read as another type of the same size.
Tensor bits_of(const Tensor& x, at::ScalarType as) { return in_memory(x).view(as); }

/// What kernels::rounding_bits says, for every number of the parameter: int64 [n].
Tensor rounding_bits(const Param& param) {
  const Tensor place = at::arange(held(param).numel(), held(param).options().dtype(at::kLong)) + int64_t{param.rounding};
  const auto times = [](const Tensor& x, int64_t factor) { return (x * factor).bitwise_and_(int64_t{0xFFFFFFFF}); };
  const auto folded = [](const Tensor& x, int64_t by) { return x.bitwise_xor(x.bitwise_right_shift(by)); };
  Tensor x = place.bitwise_and(int64_t{0xFFFFFFFF});
  x = times(folded(x, 16), 0x7FEB352D);
  x = times(folded(x, 15), 0x846CA68B);
  return folded(x, 16).bitwise_and_(int64_t{0xFFFF});
}

}  // namespace

void check(const Param& param) {
  EMULSION_CHECK(held(param).defined() && held(param).is_non_overlapping_and_dense(), internal,
                 "[optimizer] {}: expected a dense weight", param.name);
  EMULSION_CHECK(param.master.defined() + param.low.defined() + param.rounds == 1, internal,
                 "[optimizer] {}: expected one of a master, lower bits, rounding at random", param.name);
  check_follower(param, param.master, at::kFloat, "master");
  check_follower(param, param.copy, at::kBFloat16, "copy");
  check_follower(param, param.low, at::kShort, "lower half");
  check_follower(param, param.ema, at::kFloat, "moving average");
}

const Tensor& held(const Param& param) { return param.master.defined() ? param.master : param.copy; }

Tensor weight_of(const Param& param) {
  if (param.master.defined()) return param.master;
  Tensor weight = param.copy.to(at::kFloat);
  if (param.low.defined()) bits_of(weight, at::kInt).add_(bits_of(param.low, at::kShort).to(at::kInt));
  return weight;
}

void set_weight(Param& param, const Tensor& value) {
  const at::NoGradGuard no_grad;
  if (param.master.defined() && !param.master.is_same(value)) param.master.copy_(value);
  if (!param.copy.defined()) return;
  if (!param.low.defined() && !param.rounds) {
    param.copy.copy_(value);
    return;
  }
  const Tensor bits = bits_of(value, at::kInt);
  const Tensor high = (param.rounds ? bits.add(rounding_bits(param).to(at::kInt)) : bits.add(1 << (kLowBits - 1)))
                          .bitwise_right_shift_(kLowBits);
  bits_of(param.copy, at::kShort).copy_(high);
  if (param.low.defined()) bits_of(param.low, at::kShort).copy_(bits - high.bitwise_left_shift(kLowBits));
}

Tensor aligned_grad(const Param& param) {
  const Tensor &weight = held(param), &grad = param.grad;
  EMULSION_CHECK(grad.sizes() == weight.sizes(), shape, "[optimizer] {}: expected a gradient [{}], got [{}]", param.name,
                 fmt::join(weight.sizes(), ","), fmt::join(grad.sizes(), ","));
  const bool readable = grad.scalar_type() == at::kFloat || grad.scalar_type() == at::kBFloat16;
  if (readable && grad.strides() == weight.strides()) return grad;
  const auto dtype = readable ? grad.scalar_type() : at::kFloat;
  return at::empty_strided(weight.sizes(), weight.strides(), weight.options().dtype(dtype)).copy_(grad);
}

Param slice_of(const Param& param, const Tensor& grad, int64_t begin, int64_t end) {
  Param part = param;
  part.grad = grad;
  for (Tensor* tensor : {&part.master, &part.grad, &part.copy, &part.low, &part.ema}) {
    if (tensor->defined()) *tensor = in_memory(*tensor).slice(0, begin, end);
  }
  part.rounding += static_cast<uint32_t>(begin);
  return part;
}

}  // namespace emulsion::optim
