// Which published family a model in memory is nearest to.
#pragma once

#include "models/family.h"

namespace emulsion::weights {

/// By its text encoders, input channels and prediction. Single files leave out what the row says anyway.
const models::Family& nearest_family(const models::Model& model);

/// Stability's name of the family for `modelspec.architecture`: "stable-diffusion-xl-v1-base".
std::string modelspec_architecture(const models::Model& model);

/// The scheduler that a single file of this family is read with.
diffusion::SchedulerConfig usual_scheduler(const models::Family& family);

}  // namespace emulsion::weights
