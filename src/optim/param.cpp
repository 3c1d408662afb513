#include "optim/param.h"

#include "core/error.h"

namespace emulsion::optim {
namespace {

void check_follower(const Param& param, const Tensor& follower, at::ScalarType dtype,
                    const char* what) {
  if (!follower.defined()) return;
  EMULSION_CHECK(
      follower.scalar_type() == dtype && follower.sizes() == param.master.sizes() &&
          follower.strides() == param.master.strides(),
      internal,
      "[optimizer] {}: expected a {} of type {}, shape [{}], strides [{}], got {}, [{}], [{}]",
      param.name, what, at::toString(dtype), fmt::join(param.master.sizes(), ","),
      fmt::join(param.master.strides(), ","), at::toString(follower.scalar_type()),
      fmt::join(follower.sizes(), ","), fmt::join(follower.strides(), ","));
}

}  // namespace

void check(const Param& param) {
  EMULSION_CHECK(param.master.defined() && param.master.scalar_type() == at::kFloat &&
                     param.master.is_non_overlapping_and_dense(),
                 internal, "[optimizer] {}: expected a dense float32 master", param.name);
  check_follower(param, param.copy, at::kBFloat16, "copy");
  check_follower(param, param.ema, at::kFloat, "moving average");
}

void refresh_copies(const std::vector<Param>& params) {
  const at::NoGradGuard no_grad;
  for (const Param& param : params) {
    if (param.copy.defined()) Tensor(param.copy).copy_(param.master);
  }
}

}  // namespace emulsion::optim
