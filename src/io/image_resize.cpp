#include "core/error.h"
#include "io/image.h"

namespace emulsion::io {

Tensor resize_image(const Tensor& image, int64_t width, int64_t height) {
  EMULSION_CHECK(image.dim() == 3 && image.scalar_type() == at::kByte && image.numel() > 0, shape,
                 "[resize] expected uint8 [H,W,C], got {} of {} dimensions",
                 c10::toString(image.scalar_type()), image.dim());
  EMULSION_CHECK(width > 0 && height > 0, shape,
                 "[resize] expected a size of at least 1 x 1, got {} x {}", width, height);
  if (image.size(0) == height && image.size(1) == width) return image.contiguous();
  // [H,W,C] -> [1,C,H,W]
  const Tensor planes = image.permute({2, 0, 1}).unsqueeze(0);
  const Tensor resized =
      at::_upsample_bicubic2d_aa(planes, {height, width}, /*align_corners=*/false);
  return resized.squeeze(0).permute({1, 2, 0}).contiguous();
}

}  // namespace emulsion::io
