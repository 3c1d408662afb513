// Models with cheap random weights, for measuring.
#pragma once

#include "models/family.h"

namespace emulsion::models {

/// A model of that family: kernels N(0, 1 / fan in) cut from one repeated block of numbers, which is quicker than drawing a
/// billion; scales 1, biases 0. Only those `parts`, unless there are none; the others stay without weights.
Model filled_model(const Family& family, at::ScalarType dtype, const std::vector<std::string>& parts = {});

}  // namespace emulsion::models
