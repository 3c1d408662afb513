// Aspect-ratio buckets: which sizes pictures train at, and how each is resized and cut to its size.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "data/config.h"

namespace emulsion::data {

struct Size {
  int64_t width = 0, height = 0;
  auto operator<=>(const Size&) const = default;
};

/// Sizes with sides between `min` and `max` that are multiples of `step` (if `min` is) and an area
/// of at most resolution^2: for every width the greatest such height, their transposes, and the
/// square; sorted. Source: kohya sd-scripts, make_bucket_resolutions.
std::vector<Size> make_bucket_resolutions(int64_t resolution, int64_t min, int64_t max,
                                          int64_t step);

/// How a picture becomes a training picture: resized to `resized`, which covers `size`, then cut.
struct Fit {
  Size resized;
  Size size;
};

/// The bucket of each picture under a config.
class Buckets {
 public:
  explicit Buckets(const DataConfig& config);

  /// All sizes that `fit` can give; with upscale = false small pictures get further ones.
  const std::vector<Size>& sizes() const { return sizes_; }

  /// The bucket of exactly that size, otherwise the one of nearest aspect ratio (width / height).
  /// With crop_size, the size of the crop. Without upscaling, a picture smaller than its bucket
  /// keeps its own size, cut down to multiples of the step.
  Fit fit(int64_t width, int64_t height) const;

 private:
  Size nearest(int64_t width, int64_t height) const;

  std::vector<Size> sizes_;
  int64_t step_ = 64;
  int64_t crop_size_ = 0;
  bool upscale_ = true;
};

/// The smallest size of the aspect ratio of `picture` that covers `size`, rounded to whole pixels.
Size cover(Size picture, Size size);

}  // namespace emulsion::data
