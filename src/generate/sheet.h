// Contact sheets: rows of pictures, each under its label.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"

namespace emulsion::generate {

struct SheetRow {
  std::string label;
  std::vector<Tensor> pictures;  // uint8 [H, W, 3]; resized to the sheet's cell
};

/// All rows below each other, pictures in square cells of `cell` pixels: uint8 [H, W, 3] on white.
Tensor make_sheet(const std::vector<SheetRow>& rows, int64_t cell);

}  // namespace emulsion::generate
