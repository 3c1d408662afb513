// Which parts of a picture count for the loss.
#pragma once

#include <filesystem>
#include <optional>

#include "core/tensor.h"
#include "data/index.h"

namespace emulsion::data {

/// A picture's mask, or why there is none.
struct MaskResult {
  std::filesystem::path path;  // the picture itself: its alpha; empty: none; where not usable, what was found
  std::optional<Problem> problem;
  bool usable = true;  // false: the picture cannot be trained as its owner wants
};

/// Looks for the mask of a picture of `source`, as SourceConfig::mask says:
///   alpha    the picture's own transparency
///   beside   NAME-masklabel.png, as OneTrainer calls it
///   FOLDER   a picture of the same name (any ending) at the same place in that folder, as kohya's conditioning_data_dir
MaskResult find_mask(const SourceConfig& source, const Sample& sample);

/// Whether a file that lies among the pictures of `source` is a mask.
bool is_mask(const SourceConfig& source, const std::filesystem::path& file);

/// uint8 [H,W], upright: 255 counts, 0 does not. Grey of a mask's picture (its colours' mean by luminance), or alpha.
/// Throws: Error{io} and others of io::read_image.
Tensor read_mask(const Sample& sample);

}  // namespace emulsion::data
