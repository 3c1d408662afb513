// Pictures in and out: any common format in (libvips), PNG out, resizing. All functions are
// thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace emulsion::io {

/// What a header says about a picture. `width` and `height` are those after EXIF orientation.
struct ImageInfo {
  int64_t width = 0;
  int64_t height = 0;
  int bands = 0;       // as stored, e.g. 4 for RGBA and CMYK
  std::string format;  // by content, not by name: "png", "jpeg", "webp", ...
  bool has_alpha = false;
  int orientation = 1;  // EXIF, 1..8
};

/// Checked before anything is decoded.
struct ImageLimits {
  int64_t max_side = 16384;
  int64_t max_pixels = 200'000'000;
};

struct ReadOptions {
  std::array<uint8_t, 3> background = {255, 255, 255};  // under transparent pixels, sRGB
  ImageLimits limits;
};

using PngText = std::vector<std::pair<std::string, std::string>>;  // keyword, UTF-8 text

/// Whether the name ends like a picture that `read_image` can open (any case).
bool is_image_path(const std::filesystem::path& path);

/// Reads the header only.
/// Throws: Error{io} if the file is missing or unreadable; Error{format} if it is empty, not a
/// picture (says what it looks like), damaged, or larger than `limits`.
ImageInfo probe_image(const std::filesystem::path& path, const ImageLimits& limits = {});

/// uint8 [H,W,3], sRGB: upright, colour profile applied, 16 bit and grey converted, alpha
/// composited on `background`, first frame of an animation. Throws: as probe_image, and
/// Error{format} if data is cut off.
Tensor read_image(const std::filesystem::path& path, const ReadOptions& options = {});

/// uint8 [H,W,4], as read_image, with straight alpha instead of a background (255 where a file has
/// none).
Tensor read_image_rgba(const std::filesystem::path& path, const ImageLimits& limits = {});

/// The bytes of a PNG of `image`, uint8 [H,W,3] on the CPU: the same bytes for the same input.
/// `text` becomes tEXt (Latin-1) or iTXt chunks. Throws: Error{shape}; Error{format} for a keyword
/// that PNG does not allow.
std::string encode_png(const Tensor& image, const PngText& text = {});

/// encode_png into a file, atomically.
void write_png(const std::filesystem::path& path, const Tensor& image, const PngText& text = {});

/// The tEXt, zTXt and iTXt chunks of a PNG, as UTF-8, in file order; at most 1 MiB per chunk once
/// inflated. Throws: Error{io}; Error{format} if it is no PNG or a chunk is damaged.
PngText read_png_text(const std::filesystem::path& path);

/// uint8 [H,W,C] -> uint8 [height,width,C]. Bicubic (a = -0.5) with antialiasing, the filter of
/// Pillow's BICUBIC and its order of passes: within one level of it, but for one value in ten
/// thousand on pure noise. Throws: Error{shape}.
Tensor resize_image(const Tensor& image, int64_t width, int64_t height);

}  // namespace emulsion::io
