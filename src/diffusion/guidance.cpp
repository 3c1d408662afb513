#include "diffusion/guidance.h"

#include "core/error.h"

namespace emulsion::diffusion {

Tensor cfg(const Tensor& uncond, const Tensor& cond, double scale) {
  EMULSION_CHECK(uncond.sizes() == cond.sizes(), shape,
                 "[guidance] expected two equal shapes, got [{}] and [{}]",
                 fmt::join(uncond.sizes(), ","), fmt::join(cond.sizes(), ","));
  if (scale == 1) return cond;
  return uncond + scale * (cond - uncond);
}

Tensor cfg(const Tensor& uncond, const Tensor& cond, double scale, double rescale) {
  const Tensor guided = cfg(uncond, cond, scale);
  if (rescale == 0) return guided;
  const auto deviation = [](const Tensor& x) {  // [B,C,h,w] -> [B,1,1,1]
    return x.flatten(1).std(1).view({-1, 1, 1, 1});
  };
  return guided * (rescale * deviation(cond) / deviation(guided) + (1 - rescale));
}

}  // namespace emulsion::diffusion
