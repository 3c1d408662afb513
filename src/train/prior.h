// Prior preservation (DreamBooth, Ruiz et al. 2022, arXiv:2208.12242, section 3.3): pictures that the untouched model draws of a
// whole class train along, so that it does not forget what the class looks like.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/progress.h"
#include "models/model.h"
#include "train/config.h"

namespace emulsion::train {

/// How many pictures are still to be drawn into the folder.
int64_t missing_class_pictures(const PriorConfig& prior, const std::filesystem::path& folder);

/// Draws those that are missing, as class-<seed>.png, each the same whenever it is drawn. Throws: Error{cancelled} when the user
/// wishes to stop; what is drawn is kept.
void draw_class_pictures(const PriorConfig& prior, const std::filesystem::path& folder, int64_t resolution,
                         const models::Model& model, Reporter& reporter);

/// The sources with class pictures among them, repeated so that an epoch has about as many of these as of the others.
/// `draws`: the others' per epoch; `folders`: where each prior's pictures are.
data::DataConfig with_class_pictures(data::DataConfig data, const std::vector<PriorConfig>& priors,
                                     const std::vector<std::filesystem::path>& folders, int64_t draws);

}  // namespace emulsion::train
