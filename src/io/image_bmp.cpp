#include "io/image_bmp.h"

#include <bit>

#include "core/error.h"
#include "io/atomic_file.h"

namespace emulsion::io {
namespace {

constexpr size_t kFileHeader = 14;
constexpr size_t kInfoHeader = 40;  // BITMAPINFOHEADER; later ones begin with it
constexpr uint32_t kPlain = 0, kBitFields = 3;

}  // namespace

uint32_t BmpFile::number(size_t offset, size_t size) const {
  EMULSION_CHECK(offset + size <= bytes_.size(), format,
                 "{}: the bmp picture is cut off: expected at least {} bytes, got {}; fetch it "
                 "again or remove it",
                 path_.string(), offset + size, bytes_.size());
  uint32_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes_[offset + i]);
  return value;
}

BmpFile::BmpFile(const std::filesystem::path& path) : path_(path), bytes_(read_file(path)) {
  const size_t header_size = number(kFileHeader, 4);
  EMULSION_CHECK(header_size >= kInfoHeader && header_size <= 1024, format,
                 "{}: expected a bmp header of 40 to 1024 bytes, got {}; convert it to PNG",
                 path_.string(), header_size);
  const auto width = static_cast<int32_t>(number(18, 4));
  const auto height = static_cast<int32_t>(number(22, 4));
  bits_ = number(28, 2);
  const uint32_t compression = number(30, 4);
  const bool known_bits =
      bits_ == 1 || bits_ == 4 || bits_ == 8 || bits_ == 16 || bits_ == 24 || bits_ == 32;
  EMULSION_CHECK(
      width > 0 && height != 0 && height != INT32_MIN && known_bits, format,
      "{}: expected a bmp picture, got {} x {} pixels of {} bits; the file is damaged: remove it",
      path_.string(), width, height, bits_);
  EMULSION_CHECK(compression == kPlain || (compression == kBitFields && bits_ >= 16), format,
                 "{}: expected an uncompressed bmp picture, got compression {}; convert it to PNG",
                 path_.string(), compression);
  top_down_ = height < 0;
  data_begin_ = number(10, 4);
  palette_begin_ = kFileHeader + header_size;
  palette_count_ = bits_ > 8 ? 0 : number(46, 4) == 0 ? size_t{1} << bits_ : number(46, 4);
  read_masks(header_size, compression);
  info_ = {width, std::abs(height), masks_[3] != 0 ? 4 : 3, "bmp", masks_[3] != 0, 1};
}

void BmpFile::read_masks(size_t header_size, uint32_t compression) {
  masks_ = bits_ == 16 ? std::array<uint32_t, 4>{0x7c00, 0x3e0, 0x1f, 0}
                       : std::array<uint32_t, 4>{0xff0000, 0xff00, 0xff, 0};
  if (compression != kBitFields) return;
  const size_t count = header_size >= 56 ? 4 : 3;  // alpha since BITMAPV3INFOHEADER
  for (size_t i = 0; i < count; ++i) masks_[i] = number(kFileHeader + kInfoHeader + 4 * i, 4);
}

uint32_t BmpFile::pixel(const uint8_t* row, int64_t x) const {
  const uint8_t* at = row + x * static_cast<int64_t>(bits_) / 8;
  if (bits_ == 32) return at[0] | at[1] << 8 | at[2] << 16 | static_cast<uint32_t>(at[3]) << 24;
  if (bits_ == 24) return at[0] | at[1] << 8 | at[2] << 16;
  if (bits_ == 16) return at[0] | at[1] << 8;
  const size_t shift = 8 - bits_ - x * bits_ % 8;
  const uint32_t index = *at >> shift & ((1u << bits_) - 1);
  EMULSION_CHECK(index < palette_count_, format,
                 "{}: expected colours below {}, got {}; the file is damaged: remove it",
                 path_.string(), palette_count_, index);
  return number(palette_begin_ + 4 * index, 4) & 0xffffff;
}

uint8_t BmpFile::channel(uint32_t pixel, uint32_t mask) const {
  if (mask == 0) return 0;
  const int shift = std::countr_zero(mask);
  const uint64_t largest = mask >> shift;
  return static_cast<uint8_t>(((pixel & mask) >> shift) * 255ull / largest);
}

Tensor BmpFile::pixels() const {
  const uint64_t stride = (static_cast<uint64_t>(info_.width) * bits_ + 31) / 32 * 4;
  const uint64_t needed = data_begin_ + stride * static_cast<uint64_t>(info_.height);
  EMULSION_CHECK(
      needed <= bytes_.size(), format,
      "{}: the bmp picture is cut off: expected {} bytes, got {}; fetch it again or remove it",
      path_.string(), needed, bytes_.size());
  Tensor out = at::empty({info_.height, info_.width, info_.bands}, at::kByte);
  uint8_t* to = out.data_ptr<uint8_t>();
  const auto* data = reinterpret_cast<const uint8_t*>(bytes_.data()) + data_begin_;
  for (int64_t y = 0; y < info_.height; ++y) {
    const uint8_t* row = data + stride * (top_down_ ? y : info_.height - 1 - y);
    for (int64_t x = 0; x < info_.width; ++x) {
      const uint32_t value = pixel(row, x);
      for (int c = 0; c < info_.bands; ++c) *to++ = channel(value, masks_[c]);
    }
  }
  return out;
}

}  // namespace emulsion::io
