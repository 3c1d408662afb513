// What a run will need, learnt by doing a little of it.
#pragma once

#include <cstdint>

#include "core/progress.h"
#include "data/index.h"
#include "data/plan.h"
#include "train/config.h"

namespace emulsion::train {

struct Rehearsal {
  int64_t peak_bytes = 0;       // the process's largest resident set so far
  double seconds_per_step = 0;  // of the second step: the first one prepares
};

/// Two steps of the run on pictures of its largest size, and a preview of two steps where it draws previews. What this needs on
/// disk lies in the folder for temporary files and is removed again. `pictures` is what `index` and `plan` were made from.
/// Throws: Error{cancelled}; whatever the run itself would throw.
Rehearsal rehearse(const RunConfig& config, const data::DataConfig& pictures, const data::Index& index,
                   const data::BatchPlan& plan);

}  // namespace emulsion::train
