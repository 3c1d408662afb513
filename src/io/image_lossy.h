// JPEG and WebP out, and the comment that pictures carry.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "core/tensor.h"

namespace emulsion::io {

/// The bytes of a JPEG of `image`, uint8 [H,W,3] on the CPU. `quality` 1 to 100. `comment`, UTF-8, becomes the EXIF user
/// comment; none if empty. Throws: Error{shape}; Error{format} if the picture has a side above 65535, or the comment more
/// than 32 700 UTF-16 units, which the format cannot hold.
std::string encode_jpeg(const Tensor& image, int quality, const std::string& comment = "");

/// The same as WebP; `quality` 100 is lossless. A side may have 16383 pixels.
std::string encode_webp(const Tensor& image, int quality, const std::string& comment = "");

/// How a picture was made, as it says itself: the text "parameters" of a PNG, the EXIF user comment of a JPEG or WebP.
/// Throws: Error{io}; Error{format} if it is none of the three, or damaged.
std::optional<std::string> read_generation_text(const std::filesystem::path& path);

}  // namespace emulsion::io
