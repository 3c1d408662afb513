// Whole models in one file, in the layout of the original Stable Diffusion code (LDM, SGM), and single parts in a file.
#pragma once

#include <map>
#include <string>

#include "models/family.h"
#include "weights/load_options.h"

namespace emulsion::weights {

/// Reads .safetensors and what torch.save writes. What the file is, the shapes of its tensors say; what they cannot say
/// (heads, prediction type, scale of the latents) comes from the nearest family, from flag keys (`v_pred`, `ztsnr`), from
/// the header (`modelspec.prediction_type`, and the configs that save_single_file writes for models of no family), or from
/// `options`, which overrule all.
///
/// Weights are memory-mapped where dtype and layout allow.
/// Throws: Error{unsupported} for what is recognised and not built, see refuse.h; Error{not_found} for a file without any
/// part of a model, or without what `options` ask for; Error{format, shape} naming file and tensor.
models::Model load_single_file(const std::filesystem::path& path, const LoadOptions& options = {});

/// What load_single_file would load. Reads no weights.
struct DetectedModel {
  models::Family family;  // of the parts that are there; the others are as the published model has them
  diffusion::SchedulerConfig scheduler;
  std::vector<std::string> parts;
};
DetectedModel detect_single_file(const std::filesystem::path& path, const LoadOptions& options = {});

/// Writes all parts in LDM's layout: a .safetensors with `modelspec.*` in its header, the SHA-256 of the data included,
/// and, for models of no published family, their configs. `dtype` Undefined: as in memory.
/// Throws: Error{unsupported} for a part that the layout has no names for.
struct SingleFileOptions {
  at::ScalarType dtype = at::kHalf;
  bool kohya_text_projection = false;
  bool bare = false;  // one part alone, without the prefix that it has in a whole model
  std::string title = "";
  std::map<std::string, std::string> metadata = {};  // goes into the header beside the above
};
void save_single_file(const std::filesystem::path& path, const models::Model& model,
                      const SingleFileOptions& options = {});

}  // namespace emulsion::weights
