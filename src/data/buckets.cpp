#include "data/buckets.h"

#include <cmath>
#include <set>

#include "core/error.h"

namespace emulsion::data {
namespace {

double aspect(Size size) {
  return static_cast<double>(size.width) / static_cast<double>(size.height);
}

int64_t auto_step(int64_t resolution) { return std::clamp<int64_t>(resolution / 8 / 8 * 8, 8, 64); }

}  // namespace

std::vector<Size> make_bucket_resolutions(int64_t resolution, int64_t min, int64_t max,
                                          int64_t step) {
  EMULSION_CHECK(step >= 1 && resolution >= step && min >= 1 && min <= max, config,
                 "[data] expected bucket_step <= resolution and bucket_min <= bucket_max, got step "
                 "{}, resolution {}, sides {} to {}",
                 step, resolution, min, max);
  const int64_t area = resolution * resolution;
  const int64_t side = resolution / step * step;
  std::set<Size> sizes = {{side, side}};
  for (int64_t width = min; width <= max; width += step) {
    const int64_t height = std::min(max, area / width / step * step);
    if (height >= min) sizes.insert({{width, height}, {height, width}});
  }
  return {sizes.begin(), sizes.end()};
}

Buckets::Buckets(const DataConfig& config)
    : step_(config.bucket_step > 0 ? config.bucket_step : auto_step(config.resolution)),
      crop_size_(config.crop_size),
      upscale_(config.upscale) {
  const int64_t r = config.resolution;
  if (config.buckets) {
    const int64_t min = config.bucket_min > 0 ? config.bucket_min : std::max(step_, r / 2);
    const int64_t max = config.bucket_max > 0 ? config.bucket_max : std::max(min, r * 2);
    // Sides count from the shortest one: it must itself be a multiple of the step.
    sizes_ =
        make_bucket_resolutions(r, (min + step_ - 1) / step_ * step_, max / step_ * step_, step_);
  } else {
    sizes_ = {{r, r}};
  }
}

Size Buckets::nearest(int64_t width, int64_t height) const {
  const Size picture{width, height};
  if (std::binary_search(sizes_.begin(), sizes_.end(), picture)) return picture;
  return *std::min_element(sizes_.begin(), sizes_.end(), [&](Size a, Size b) {
    return std::abs(aspect(a) - aspect(picture)) < std::abs(aspect(b) - aspect(picture));
  });
}

Fit Buckets::fit(int64_t width, int64_t height) const {
  const Size picture{width, height};
  Size size = nearest(width, height);
  Size resized = cover(picture, size);
  if (!upscale_ && resized.width > width) {
    resized = picture;
    size = {std::max(std::min(size.width, width) / step_, int64_t{1}) * step_,
            std::max(std::min(size.height, height) / step_, int64_t{1}) * step_};
    if (size.width > width || size.height > height) resized = cover(picture, size);
  }
  if (crop_size_ > 0) {
    size = {crop_size_, crop_size_};
    if (resized.width < crop_size_ || resized.height < crop_size_) resized = cover(picture, size);
  }
  return {resized, size};
}

Size cover(Size picture, Size size) {
  const bool wider = aspect(picture) > aspect(size);
  const double scale = wider
                           ? static_cast<double>(size.height) / static_cast<double>(picture.height)
                           : static_cast<double>(size.width) / static_cast<double>(picture.width);
  const auto scaled = [&](int64_t side) {
    return static_cast<int64_t>(static_cast<double>(side) * scale + 0.5);
  };
  return {std::max(scaled(picture.width), size.width),
          std::max(scaled(picture.height), size.height)};
}

}  // namespace emulsion::data
