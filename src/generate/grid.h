// Pictures side by side.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace emulsion::generate {

/// uint8 [B, H, W, 3] -> [rows (H+gap) + gap, columns (W+gap) + gap, 3] on white.
Tensor make_grid(const Tensor& pictures, int64_t columns, int64_t gap = 2);

/// The number of columns that makes a grid of `count` pictures about as wide as high, as A1111's web UI chooses it.
int64_t grid_columns(int64_t count);

}  // namespace emulsion::generate
