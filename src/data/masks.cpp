#include "data/masks.h"

#include <cmath>

#include "core/error.h"
#include "io/image.h"

namespace emulsion::data {
namespace {

using std::filesystem::path;

constexpr const char* kAlpha = "alpha";
constexpr const char* kBeside = "beside";
constexpr const char* kMaskEnding = "-masklabel.png";
constexpr double kShapeTolerance = 0.02;  // relative difference of the sides' ratios: masks that were made smaller round

path mask_in(const path& folder, const path& relative) {
  for (const path& ending : {relative.extension(), path(".png"), path(".jpg"), path(".jpeg"), path(".webp"), path(".bmp")}) {
    path candidate = folder / relative;
    candidate.replace_extension(ending);
    if (std::filesystem::exists(candidate)) return candidate;
  }
  return {};
}

path mask_beside(const path& picture) {
  const path candidate = picture.parent_path() / (picture.stem().string() + kMaskEnding);
  return std::filesystem::exists(candidate) ? candidate : path();
}

MaskResult trained_whole(const Sample& sample, const std::string& reason, const std::string& remedy) {
  return {{}, Problem{sample.path, sample.path.string(), reason, "trained whole; " + remedy}};
}

/// A mask may be smaller or larger than its picture, but not of another shape.
MaskResult fitting(const Sample& sample, const path& mask) {
  const auto info = io::probe_image(mask);
  const double ratio = static_cast<double>(info.width * sample.height) / static_cast<double>(info.height * sample.width);
  if (std::abs(ratio - 1) <= kShapeTolerance) return {mask, {}};
  const std::string reason = fmt::format("its mask is {} x {} pixels, the picture {} x {}: another shape", info.width, info.height,
                                         sample.width, sample.height);
  return {mask, Problem{sample.path, mask.string(), reason, "picture left out; make the mask of the whole picture"}, false};
}

}  // namespace

MaskResult find_mask(const SourceConfig& source, const Sample& sample) {
  if (source.mask.empty()) return {};
  if (source.mask == kAlpha) {
    if (sample.has_alpha) return {sample.path, {}};
    return trained_whole(sample, "expected an alpha channel as its mask, got none", "save it with transparency");
  }
  const path relative = sample.path.lexically_relative(source.path);
  const path mask = source.mask == kBeside ? mask_beside(sample.path) : mask_in(source.mask, relative);
  if (!mask.empty()) return fitting(sample, mask);
  const path expected = source.mask == kBeside ? sample.path.parent_path() / (sample.path.stem().string() + kMaskEnding)
                                               : path(source.mask) / relative;
  return trained_whole(sample, fmt::format("expected its mask \"{}\", got no such file", expected.string()), "put the mask there");
}

bool is_mask(const SourceConfig& source, const path& file) {
  if (source.mask.empty() || source.mask == kAlpha) return false;
  if (source.mask == kBeside) return file.filename().string().ends_with(kMaskEnding);
  const path inside = std::filesystem::absolute(file).lexically_normal().lexically_relative(
      std::filesystem::absolute(source.mask).lexically_normal());
  return !inside.empty() && *inside.begin() != "..";
}

Tensor read_mask(const Sample& sample) {
  if (sample.mask == sample.path) return io::read_image_rgba(sample.path).select(2, 3).contiguous();
  // ITU-R BT.601, as PIL's convert("L").
  const Tensor colours = io::read_image(sample.mask).to(at::kFloat);
  const Tensor grey = 0.299 * colours.select(2, 0) + 0.587 * colours.select(2, 1) + 0.114 * colours.select(2, 2);
  return grey.round().to(at::kByte).contiguous();
}

}  // namespace emulsion::data
