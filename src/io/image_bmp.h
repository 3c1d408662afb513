// Internal to io: uncompressed Windows bitmaps (1, 4, 8, 16, 24 and 32 bit; BITMAPINFOHEADER and
// later).
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

#include "core/tensor.h"
#include "io/image.h"

namespace emulsion::io {

class BmpFile {
 public:
  /// Reads file and header. Throws: Error{io}; Error{format} if it is damaged or compressed.
  explicit BmpFile(const std::filesystem::path& path);

  const ImageInfo& info() const { return info_; }

  /// uint8 [H,W,3], or [H,W,4] if it has alpha. Throws: Error{format} if it is cut off.
  Tensor pixels() const;

 private:
  uint32_t number(size_t offset, size_t size) const;
  void read_masks(size_t header_size, uint32_t compression);
  uint32_t pixel(const uint8_t* row, int64_t x) const;
  uint8_t channel(uint32_t pixel, uint32_t mask) const;

  std::filesystem::path path_;
  std::string bytes_;
  ImageInfo info_;
  bool top_down_ = false;
  size_t bits_ = 0;  // per pixel
  size_t data_begin_ = 0;
  size_t palette_begin_ = 0;
  size_t palette_count_ = 0;
  std::array<uint32_t, 4> masks_{};  // red, green, blue, alpha
};

}  // namespace emulsion::io
