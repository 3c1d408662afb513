#include "picture_file.h"

#include <algorithm>

#include "io/atomic_file.h"
#include "io/image.h"
#include "io/image_lossy.h"

namespace emulsion::app {
namespace {

std::string ending_of(const std::filesystem::path& path) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return ending;
}

bool is_jpeg(const std::string& ending) { return ending == ".jpg" || ending == ".jpeg"; }

}  // namespace

bool is_picture_name(const std::filesystem::path& path) {
  const std::string ending = ending_of(path);
  return ending == ".png" || ending == ".webp" || is_jpeg(ending);
}

void write_picture(const std::filesystem::path& path, const Tensor& picture, const std::string& infotext) {
  const std::string ending = ending_of(path);
  if (is_jpeg(ending)) return io::write_file_atomic(path, io::encode_jpeg(picture, 95, infotext));
  if (ending == ".webp") return io::write_file_atomic(path, io::encode_webp(picture, 90, infotext));
  io::write_png(path, picture, {{"parameters", infotext}});
}

}  // namespace emulsion::app
