// Pictures and files for the tests of the data module.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "data/config.h"
#include "io/image.h"

namespace emulsion::data {

inline SourceConfig source_at(const std::filesystem::path& folder) {
  SourceConfig source;
  source.path = folder.string();
  return source;
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

/// A PNG of one colour.
inline void write_picture(const std::filesystem::path& path, int64_t width, int64_t height,
                          uint8_t value = 128) {
  std::filesystem::create_directories(path.parent_path());
  io::write_png(path, at::full({height, width, 3}, value, at::kByte));
}

/// A PNG whose pixels all differ: red counts columns, green rows, blue is `value`.
inline void write_ramp(const std::filesystem::path& path, int64_t width, int64_t height,
                       uint8_t value = 0) {
  std::filesystem::create_directories(path.parent_path());
  const at::Tensor image = at::full({height, width, 3}, value, at::kByte);
  image.select(2, 0).copy_(at::arange(width, at::kByte).unsqueeze(0).expand({height, width}));
  image.select(2, 1).copy_(at::arange(height, at::kByte).unsqueeze(1).expand({height, width}));
  io::write_png(path, image);
}

}  // namespace emulsion::data
