#include <zlib.h>

#include <cstdlib>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/image.h"
#include "io/png_chunk.h"

namespace emulsion::io {
namespace {

constexpr int kFilters = 5;
constexpr int kLevel = 6;
constexpr size_t kPiece = 1 << 20;  // bytes of compressed data per chunk

uint8_t paeth(int left, int up, int corner) {
  const int estimate = left + up - corner;
  const int to_left = std::abs(estimate - left);
  const int to_up = std::abs(estimate - up);
  const int to_corner = std::abs(estimate - corner);
  if (to_left <= to_up && to_left <= to_corner) return static_cast<uint8_t>(left);
  return static_cast<uint8_t>(to_up <= to_corner ? up : corner);
}

// What filter `kind` of the PNG specification (section 9) predicts.
uint8_t predict(int kind, int left, int up, int corner) {
  switch (kind) {
    case 1:
      return static_cast<uint8_t>(left);
    case 2:
      return static_cast<uint8_t>(up);
    case 3:
      return static_cast<uint8_t>((left + up) / 2);
    case 4:
      return paeth(left, up, corner);
    default:
      return 0;
  }
}

// Filters a row into `out`; returns the sum of the absolute differences, which says how well it
// will compress.
int64_t filter_row(int kind, const uint8_t* row, const uint8_t* above, int64_t size, char* out) {
  int64_t sum = 0;
  for (int64_t i = 0; i < size; ++i) {
    const int left = i >= 3 ? row[i - 3] : 0;
    const int up = above ? above[i] : 0;
    const int corner = above && i >= 3 ? above[i - 3] : 0;
    const auto difference = static_cast<uint8_t>(row[i] - predict(kind, left, up, corner));
    out[i] = static_cast<char>(difference);
    sum += std::min<int>(difference, 256 - difference);
  }
  return sum;
}

// Every row with the filter that suits it best, led by the filter's number.
std::string filter_rows(const Tensor& image) {
  const int64_t size = image.size(1) * 3;
  const uint8_t* pixels = image.const_data_ptr<uint8_t>();
  std::string out;
  out.reserve(static_cast<size_t>(image.size(0) * (size + 1)));
  std::string row(static_cast<size_t>(size), '\0'), best = row;
  for (int64_t y = 0; y < image.size(0); ++y) {
    const uint8_t* current = pixels + y * size;
    int64_t least = INT64_MAX;
    int chosen = 0;
    for (int kind = 0; kind < kFilters; ++kind) {
      const int64_t sum =
          filter_row(kind, current, y > 0 ? current - size : nullptr, size, row.data());
      if (sum >= least) continue;
      least = sum;
      chosen = kind;
      std::swap(row, best);
    }
    out += static_cast<char>(chosen);
    out += best;
  }
  return out;
}

std::string deflate_all(std::string_view bytes) {
  uLongf size = compressBound(bytes.size());
  std::string out(size, '\0');
  const int status = compress2(reinterpret_cast<Bytef*>(out.data()), &size,
                               reinterpret_cast<const Bytef*>(bytes.data()), bytes.size(), kLevel);
  EMULSION_CHECK(status == Z_OK, internal, "[png] compression failed with status {}", status);
  out.resize(size);
  return out;
}

std::string header_chunk(const Tensor& image) {
  std::string data = png_number(static_cast<uint32_t>(image.size(1))) +
                     png_number(static_cast<uint32_t>(image.size(0)));
  data +=
      std::string("\x08\x02\0\0\0", 5);  // 8 bits, RGB, deflate, adaptive filters, not interlaced
  return png_chunk("IHDR", data);
}

}  // namespace

std::string encode_png(const Tensor& image, const PngText& text) {
  EMULSION_CHECK(image.defined() && image.dim() == 3 && image.size(2) == 3 && image.numel() > 0 &&
                     image.scalar_type() == at::kByte && image.is_cpu(),
                 shape, "[png] expected uint8 [H,W,3] on the CPU, got {} of {} dimensions",
                 image.defined() ? c10::toString(image.scalar_type()) : "nothing",
                 image.defined() ? image.dim() : 0);
  const std::string data = deflate_all(filter_rows(image.contiguous()));
  std::string out(kPngMark);
  out += header_chunk(image);
  for (const auto& [keyword, value] : text) out += png_text_chunk(keyword, value);
  for (size_t i = 0; i < data.size(); i += kPiece) {
    out += png_chunk("IDAT", std::string_view(data).substr(i, kPiece));
  }
  return out + png_chunk("IEND", "");
}

void write_png(const std::filesystem::path& path, const Tensor& image, const PngText& text) {
  write_file_atomic(path, encode_png(image, text));
}

}  // namespace emulsion::io
