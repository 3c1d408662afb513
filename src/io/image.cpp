#include "io/image.h"

#include <fcntl.h>
#include <vips/vips.h>

#include <cerrno>

#include "core/error.h"
#include "core/log.h"
#include "io/color_profile.h"
#include "io/content.h"
#include "io/file_error.h"
#include "io/image_bmp.h"

namespace emulsion::io {
namespace {

using namespace std::string_view_literals;

struct ObjectRelease {
  void operator()(void* object) const { g_object_unref(object); }
};
using Image = std::unique_ptr<VipsImage, ObjectRelease>;
using Source = std::unique_ptr<VipsSource, ObjectRelease>;

// How a format is recognised: `mark` at byte `offset`, and the loader for it.
struct Format {
  const char* name;
  size_t offset;
  std::string_view mark;
  int (*load)(VipsSource*, VipsImage**, ...);
};

// The whole list of loaders a file can reach.
constexpr Format kFormats[] = {
    {"png", 0, "\x89PNG\r\n\x1a\n"sv, vips_pngload_source},
    {"jpeg", 0, "\xff\xd8\xff"sv, vips_jpegload_source},
    {"webp", 8, "WEBP"sv, vips_webpload_source},
    {"gif", 0, "GIF87a"sv, vips_gifload_source},
    {"gif", 0, "GIF89a"sv, vips_gifload_source},
    {"tiff", 0, "II*\0"sv, vips_tiffload_source},
    {"tiff", 0, "MM\0*"sv, vips_tiffload_source},
    {"tiff", 0, "II+\0"sv, vips_tiffload_source},
    {"tiff", 0, "MM\0+"sv, vips_tiffload_source},
    {"avif", 4, "ftypavif"sv, vips_heifload_source},
    {"avif", 4, "ftypavis"sv, vips_heifload_source},
    {"heic", 4, "ftyphei"sv, vips_heifload_source},
    {"heic", 4, "ftyphev"sv, vips_heifload_source},
    {"heic", 4, "ftypmif1"sv, vips_heifload_source},
    {"heic", 4, "ftypmsf1"sv, vips_heifload_source},
    {"bmp", 0, "BM"sv, nullptr},  // libvips has no safe loader for it: see image_bmp.h
    {"jxl", 0, "\xff\x0a"sv, vips_jxlload_source},
    {"jxl", 0, "\0\0\0\x0cJXL \r\n\x87\n"sv, vips_jxlload_source},
};

constexpr std::string_view kExtensions[] = {".png",  ".jpg",  ".jpeg", ".webp", ".gif", ".tif",
                                            ".tiff", ".avif", ".heic", ".heif", ".jxl", ".bmp"};

void forward_message(const char*, GLogLevelFlags, const char* message, void*) {
  log::debug("libvips: {}", message);
}

void start_vips() {
  static const bool started = [] {
    if (VIPS_INIT("emulsion") != 0) return false;
    vips_block_untrusted_set(TRUE);
    vips_operation_block_set("VipsForeignLoadJxl",
                             FALSE);  // named in kFormats, so only for its own files
    vips_concurrency_set(1);          // callers decode pictures side by side
    vips_cache_set_max(0);            // a file may change between two reads
    g_log_set_handler("VIPS", static_cast<GLogLevelFlags>(G_LOG_LEVEL_MASK), forward_message,
                      nullptr);
    return true;
  }();
  EMULSION_CHECK(started, internal, "libvips does not start: {}", vips_error_buffer());
}

// The library's own words, on one line. Its buffer is shared by all threads.
std::string vips_message() {
  char* const buffer = vips_error_buffer_copy();
  std::string text = buffer;
  g_free(buffer);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::ranges::replace(text, '\n', ',');
  return text.empty() ? "unknown reason" : printable(text, 200);
}

std::string first_bytes(const std::filesystem::path& path) {
  const ScopedDescriptor descriptor(open_for_reading(path));
  std::string bytes(64, '\0');
  bytes.resize(read_fully(descriptor.get(), path, bytes.data(), bytes.size()));
  return bytes;
}

const Format& detect_format(const std::filesystem::path& path) {
  const std::string bytes = first_bytes(path);
  EMULSION_CHECK(!bytes.empty(), format,
                 "{}: expected a picture, got an empty file; fetch it again or remove it",
                 path.string());
  for (const Format& format : kFormats) {
    if (bytes.size() > format.offset &&
        std::string_view(bytes).substr(format.offset).starts_with(format.mark)) {
      return format;
    }
  }
  throw Error(
      ErrorCode::format,
      fmt::format("{}: expected a picture, but this looks like {}; remove it or convert it to PNG",
                  path.string(), describe_content(bytes)));
}

struct Opened {
  Image image;
  ImageInfo info;
};

void check_limits(const std::filesystem::path& path, const ImageInfo& info,
                  const ImageLimits& limits) {
  EMULSION_CHECK(std::max(info.width, info.height) <= limits.max_side, format,
                 "{}: expected at most {} pixels a side, got {} x {}; make it smaller",
                 path.string(), limits.max_side, info.width, info.height);
  EMULSION_CHECK(info.width * info.height <= limits.max_pixels, format,
                 "{}: expected at most {} pixels, got {} x {} = {}; make it smaller", path.string(),
                 limits.max_pixels, info.width, info.height, info.width * info.height);
}

ImageInfo describe(VipsImage* image, const Format& format) {
  ImageInfo info;
  const bool turned = vips_image_get_orientation_swap(image);
  info.width = turned ? image->Ysize : image->Xsize;
  info.height = turned ? image->Xsize : image->Ysize;
  info.bands = image->Bands;
  info.format = format.name;
  info.has_alpha = vips_image_hasalpha(image);
  info.orientation = vips_image_get_orientation(image);
  return info;
}

[[noreturn]] void throw_damaged(const std::filesystem::path& path, const Format& format) {
  throw Error(
      ErrorCode::format,
      fmt::format("{}: the {} picture is damaged or cut off ({}); fetch it again or remove it",
                  path.string(), format.name, vips_message()));
}

// Reads the header; pixels follow when the image is evaluated.
Opened open_image(const std::filesystem::path& path, const Format& format,
                  const ImageLimits& limits) {
  start_vips();
  const Source source(vips_source_new_from_file(path.c_str()));
  if (!source) throw_damaged(path, format);
  VipsImage* image = nullptr;
  if (format.load(source.get(), &image, "access", VIPS_ACCESS_SEQUENTIAL, "fail_on",
                  VIPS_FAIL_ON_ERROR, nullptr) != 0) {
    throw_damaged(path, format);
  }
  Opened opened{Image(image), describe(image, format)};
  check_limits(path, opened.info, limits);
  return opened;
}

// The way from a stored picture to upright sRGB; `path` and `format` are for messages.
class Pipeline {
 public:
  Pipeline(const std::filesystem::path& path, const Format& format, Image image)
      : path_(path), format_(format), image_(std::move(image)) {}

  // uint8 [H,W,4], or [H,W,3] if there is no alpha.
  Tensor run() {
    turn_upright();
    Image alpha = split_alpha();
    to_srgb();
    if (!alpha) return pixels(image_.get(), 3);
    VipsImage* joined = nullptr;
    check(vips_bandjoin2(image_.get(), alpha.get(), &joined, nullptr));
    return pixels(Image(joined).get(), 4);
  }

 private:
  void check(int status) const {
    if (status != 0) throw_damaged(path_, format_);
  }

  void turn_upright() {
    if (vips_image_get_orientation(image_.get()) == 1) return;
    // Turning needs pixels in another order than the file has them.
    Image decoded(vips_image_copy_memory(image_.get()));
    if (!decoded) throw_damaged(path_, format_);
    VipsImage* out = nullptr;
    check(vips_autorot(decoded.get(), &out, nullptr));
    image_.reset(out);
  }

  // Leaves the colours in image_. The alpha is uint8.
  Image split_alpha() {
    if (!vips_image_hasalpha(image_.get())) return nullptr;
    // Both halves read the picture, which arrives once, from top to bottom.
    Image decoded(vips_image_copy_memory(image_.get()));
    if (!decoded) throw_damaged(path_, format_);
    const int colours = decoded->Bands - 1;
    VipsImage* out = nullptr;
    check(vips_extract_band(decoded.get(), &out, 0, "n", colours, nullptr));
    image_.reset(out);
    check(vips_extract_band(decoded.get(), &out, colours, nullptr));
    Image alpha(out);
    if (alpha->BandFmt == VIPS_FORMAT_UCHAR) return alpha;
    const double largest =
        decoded->Type == VIPS_INTERPRETATION_GREY16 || decoded->Type == VIPS_INTERPRETATION_RGB16
            ? 65535
        : decoded->Type == VIPS_INTERPRETATION_scRGB ? 1
                                                     : 255;
    check(vips_linear1(alpha.get(), &out, 255 / largest, 0.5, "uchar", TRUE, nullptr));
    return Image(out);
  }

  // A profile that says it is sRGB changes nothing, so its (slow, and slightly inexact) transform
  // is left out.
  bool has_foreign_profile() const {
    const void* data = nullptr;
    size_t size = 0;
    if (!vips_image_get_typeof(image_.get(), VIPS_META_ICC_NAME) ||
        vips_image_get_blob(image_.get(), VIPS_META_ICC_NAME, &data, &size) != 0) {
      return false;
    }
    return !is_srgb_profile({static_cast<const char*>(data), size});
  }

  bool transform_by_profile() {
    VipsImage* out = nullptr;
    if (vips_icc_transform(image_.get(), &out, "srgb", "embedded", TRUE, "intent",
                           VIPS_INTENT_PERCEPTUAL, "depth", 8, nullptr) != 0) {
      log::warning("{}: the colour profile cannot be used ({}); the profile is ignored",
                   path_.string(), vips_message());
      return false;
    }
    image_.reset(out);
    return true;
  }

  void to_srgb() {
    const bool done = has_foreign_profile() && transform_by_profile();
    VipsImage* out = nullptr;
    if (!done && image_->Type != VIPS_INTERPRETATION_sRGB) {
      check(vips_colourspace(image_.get(), &out, VIPS_INTERPRETATION_sRGB, nullptr));
      image_.reset(out);
    }
    if (image_->BandFmt != VIPS_FORMAT_UCHAR) {
      check(vips_cast_uchar(image_.get(), &out, nullptr));
      image_.reset(out);
    }
    if (image_->Bands == 3) return;
    EMULSION_CHECK(image_->Bands == 1, format,
                   "{}: expected 1, 3 or 4 colour channels, got {}; convert it to RGB",
                   path_.string(), image_->Bands);
    VipsImage* const grey[3] = {image_.get(), image_.get(), image_.get()};
    check(vips_bandjoin(const_cast<VipsImage**>(grey), &out, 3, nullptr));
    image_.reset(out);
  }

  // Evaluates everything above.
  Tensor pixels(VipsImage* image, int64_t channels) const {
    size_t size = 0;
    void* const memory = vips_image_write_to_memory(image, &size);
    if (memory == nullptr) throw_damaged(path_, format_);
    const std::vector<int64_t> shape = {image->Ysize, image->Xsize, channels};
    return at::from_blob(
        memory, shape, [](void* data) { g_free(data); }, at::kByte);
  }

  const std::filesystem::path& path_;
  const Format& format_;
  Image image_;
};

Tensor decode(const std::filesystem::path& path, const ImageLimits& limits) {
  const Format& format = detect_format(path);
  if (format.load == nullptr) {
    const BmpFile bmp(path);
    check_limits(path, bmp.info(), limits);
    return bmp.pixels();
  }
  Opened opened = open_image(path, format, limits);
  return Pipeline(path, format, std::move(opened.image)).run();
}

// round((rgb * a + background * (255 - a)) / 255)
Tensor composite(const Tensor& rgba, const std::array<uint8_t, 3>& background) {
  Tensor out = at::empty({rgba.size(0), rgba.size(1), 3}, at::kByte);
  const uint8_t* from = rgba.const_data_ptr<uint8_t>();
  uint8_t* to = out.data_ptr<uint8_t>();
  const int64_t count = rgba.size(0) * rgba.size(1);
  for (int64_t i = 0; i < count; ++i, from += 4, to += 3) {
    const int alpha = from[3];
    for (int c = 0; c < 3; ++c) {
      to[c] = static_cast<uint8_t>((from[c] * alpha + background[c] * (255 - alpha) + 127) / 255);
    }
  }
  return out;
}

}  // namespace

bool is_image_path(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::ranges::find(kExtensions, extension) != std::end(kExtensions);
}

ImageInfo probe_image(const std::filesystem::path& path, const ImageLimits& limits) {
  const Format& format = detect_format(path);
  if (format.load != nullptr) return open_image(path, format, limits).info;
  const ImageInfo info = BmpFile(path).info();
  check_limits(path, info, limits);
  return info;
}

Tensor read_image(const std::filesystem::path& path, const ReadOptions& options) {
  Tensor pixels = decode(path, options.limits);
  return pixels.size(2) == 4 ? composite(pixels, options.background) : pixels;
}

Tensor read_image_rgba(const std::filesystem::path& path, const ImageLimits& limits) {
  const Tensor pixels = decode(path, limits);
  if (pixels.size(2) == 4) return pixels;
  return at::cat({pixels, at::full({pixels.size(0), pixels.size(1), 1}, 255, at::kByte)}, 2);
}

}  // namespace emulsion::io
