#include "io/text_image.h"

#include <vips/vips.h>

#include "core/error.h"
#include "io/image.h"

namespace emulsion::io {

Tensor text_image(const std::string& text, int64_t size) {
  if (text.empty()) return at::full({size, 1, 3}, 255, at::kByte);
  EMULSION_CHECK(VIPS_INIT("emulsion") == 0, io, "[text] libvips does not start: {}", vips_error_buffer());
  gchar* escaped = g_markup_escape_text(text.c_str(), -1);
  VipsImage* mask = nullptr;
  const std::string font = fmt::format("sans {}", size * 3 / 4);
  const int failed = vips_text(&mask, escaped, "font", font.c_str(), "dpi", 72, nullptr);
  g_free(escaped);
  EMULSION_CHECK(!failed, io, "[text] cannot draw \"{}\": {}; is a font installed?", text, vips_error_buffer());
  size_t bytes = 0;
  void* pixels = vips_image_write_to_memory(mask, &bytes);
  const int64_t height = vips_image_get_height(mask), width = vips_image_get_width(mask);
  g_object_unref(mask);
  const Tensor coverage = at::from_blob(pixels, {height, width, 1}, at::kByte).to(at::kFloat) / 255;
  g_free(pixels);
  return (255 - coverage * 215).round().to(at::kByte).expand({height, width, 3}).contiguous();
}

}  // namespace emulsion::io
