// Pictures in the format that their name says.
#pragma once

#include <filesystem>
#include <string>

#include "core/tensor.h"

namespace emulsion::app {

/// Whether the name ends in .png, .jpg, .jpeg or .webp (any case).
bool is_picture_name(const std::filesystem::path& path);

/// Writes uint8 [H, W, 3] atomically, with `infotext` where that format has it: PNG's text "parameters", the EXIF user
/// comment of JPEG (quality 95) and WebP (quality 90).
void write_picture(const std::filesystem::path& path, const Tensor& picture, const std::string& infotext);

}  // namespace emulsion::app
