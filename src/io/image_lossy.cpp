#include "io/image_lossy.h"

#include <vips/vips.h>

#include <memory>

#include "core/error.h"
#include "io/content.h"
#include "io/exif_comment.h"
#include "io/file_error.h"
#include "io/image.h"
#include "io/png_chunk.h"

namespace emulsion::io {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kExifLead = "Exif\0\0"sv;
constexpr size_t kMaxSegment = 65533;      // data of one JPEG segment
constexpr size_t kMaxFile = size_t{1} << 30;

struct Release {
  void operator()(VipsImage* image) const { g_object_unref(image); }
};

void check_picture(const Tensor& image, int quality, int64_t most, const char* format) {
  EMULSION_CHECK(image.defined() && image.dim() == 3 && image.size(2) == 3 && image.numel() > 0 &&
                     image.scalar_type() == at::kByte && image.is_cpu(),
                 shape, "[{}] expected uint8 [H,W,3] on the CPU, got {} of {} dimensions", format,
                 image.defined() ? c10::toString(image.scalar_type()) : "nothing", image.defined() ? image.dim() : 0);
  EMULSION_CHECK(quality >= 1 && quality <= 100, config, "[{}] expected a quality of 1 to 100, got {}", format, quality);
  EMULSION_CHECK(image.size(0) <= most && image.size(1) <= most, format,
                 "[{}] expected at most {} pixels a side, got {} x {}; write a PNG", format, most, image.size(1),
                 image.size(0));
}

template <class Save>
std::string encode(const Tensor& image, const char* format, const Save& save) {
  EMULSION_CHECK(VIPS_INIT("emulsion") == 0, internal, "libvips does not start: {}", vips_error_buffer());
  const Tensor pixels = image.contiguous();
  const std::unique_ptr<VipsImage, Release> source(vips_image_new_from_memory(
      pixels.const_data_ptr(), pixels.nbytes(), static_cast<int>(pixels.size(1)), static_cast<int>(pixels.size(0)), 3,
      VIPS_FORMAT_UCHAR));
  EMULSION_CHECK(source, internal, "[{}] {}", format, vips_error_buffer());
  source->Type = VIPS_INTERPRETATION_sRGB;
  void* data = nullptr;
  size_t size = 0;
  EMULSION_CHECK(save(source.get(), &data, &size) == 0, io, "[{}] the picture cannot be encoded: {}", format,
                 printable(vips_error_buffer(), 200));
  std::string bytes(static_cast<const char*>(data), size);
  g_free(data);
  return bytes;
}

std::string little32(size_t value) {
  std::string out;
  for (int i = 0; i < 4; ++i) out += static_cast<char>(value >> 8 * i);
  return out;
}
size_t read_little(std::string_view bytes, size_t at, size_t size) {
  size_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

std::string riff_chunk(std::string_view type, std::string_view data) {
  std::string out = std::string(type) + little32(data.size()) + std::string(data);
  if (data.size() % 2 != 0) out += '\0';
  return out;
}

std::string canvas_side(int64_t pixels) { return little32(static_cast<size_t>(pixels - 1)).substr(0, 3); }

/// Calls `use(type, data)` for every chunk of a RIFF file until it returns true.
template <class Use>
void walk_riff(std::string_view file, const Use& use) {
  for (size_t at = 12; at + 8 <= file.size();) {
    const size_t size = read_little(file, at + 4, 4);
    if (size > file.size() - at - 8 || use(file.substr(at, 4), file.substr(at + 8, size))) return;
    at += 8 + size + size % 2;
  }
}

std::optional<std::string> comment_of_webp(std::string_view file) {
  std::optional<std::string> comment;
  walk_riff(file, [&](std::string_view type, std::string_view data) {
    if (type == "EXIF") comment = comment_of_exif(data);
    return type == "EXIF";
  });
  return comment;
}

std::optional<std::string> comment_of_jpeg(std::string_view file) {
  for (size_t at = 2; at + 4 <= file.size() && file[at] == '\xff';) {
    const char marker = file[at + 1];
    if (marker == '\xda' || marker == '\xd9') break;  // pixels follow
    const size_t size = static_cast<unsigned char>(file[at + 2]) << 8 | static_cast<unsigned char>(file[at + 3]);
    if (size < 2 || size > file.size() - at - 2) break;
    const std::string_view data = file.substr(at + 4, size - 2);
    if (marker == '\xe1' && data.starts_with(kExifLead)) return comment_of_exif(data);
    at += 2 + size;
  }
  return std::nullopt;
}

std::string read_whole(const std::filesystem::path& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  const ScopedDescriptor descriptor(open_for_reading(path));
  EMULSION_CHECK(!error && size <= kMaxFile, format, "{}: expected a picture of at most {} bytes", path.string(), kMaxFile);
  std::string bytes(size, '\0');
  bytes.resize(read_fully(descriptor.get(), path, bytes.data(), bytes.size()));
  return bytes;
}

std::optional<std::string> parameters_of_png(const std::filesystem::path& path) {
  for (const auto& [keyword, text] : read_png_text(path)) {
    if (keyword == "parameters") return text;
  }
  return std::nullopt;
}

}  // namespace

std::string encode_jpeg(const Tensor& image, int quality, const std::string& comment) {
  check_picture(image, quality, 65535, "jpeg");
  const std::string file = encode(image, "jpeg", [&](VipsImage* source, void** data, size_t* size) {
    return vips_jpegsave_buffer(source, data, size, "Q", quality, "strip", TRUE, nullptr);
  });
  if (comment.empty()) return file;
  const std::string exif = std::string(kExifLead) + exif_with_comment(comment);
  EMULSION_CHECK(exif.size() <= kMaxSegment, format,
                 "[jpeg] expected at most {} bytes of EXIF data, got {}; shorten the prompt or write a PNG", kMaxSegment,
                 exif.size());
  const std::string length = png_number(static_cast<uint32_t>(exif.size() + 2)).substr(2);
  return file.substr(0, 2) + "\xff\xe1" + length + exif + file.substr(2);
}

std::string encode_webp(const Tensor& image, int quality, const std::string& comment) {
  check_picture(image, quality, 16383, "webp");
  const std::string file = encode(image, "webp", [&](VipsImage* source, void** data, size_t* size) {
    return vips_webpsave_buffer(source, data, size, "Q", quality, "lossless", quality == 100 ? TRUE : FALSE, "strip",
                                TRUE, nullptr);
  });
  if (comment.empty()) return file;
  std::string chunks;  // the extended form: a header that says what follows
  constexpr char kHasExif = 0x08;
  chunks += riff_chunk("VP8X", std::string(1, kHasExif) + std::string(3, '\0') + canvas_side(image.size(1)) +
                                   canvas_side(image.size(0)));
  walk_riff(file, [&](std::string_view type, std::string_view data) {
    if (type == "VP8 " || type == "VP8L") chunks += riff_chunk(type, data);
    return false;
  });
  chunks += riff_chunk("EXIF", exif_with_comment(comment));
  return "RIFF" + little32(chunks.size() + 4) + "WEBP" + chunks;
}

std::optional<std::string> read_generation_text(const std::filesystem::path& path) {
  const std::string format = probe_image(path).format;
  if (format == "png") return parameters_of_png(path);
  EMULSION_CHECK(format == "jpeg" || format == "webp", format,
                 "{}: expected a PNG, JPEG or WebP, which may say how they were made, got {}", path.string(), format);
  return format == "jpeg" ? comment_of_jpeg(read_whole(path)) : comment_of_webp(read_whole(path));
}

}  // namespace emulsion::io
