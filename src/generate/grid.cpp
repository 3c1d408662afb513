#include "generate/grid.h"

#include <algorithm>
#include <cmath>

namespace emulsion::generate {

Tensor make_grid(const Tensor& pictures, int64_t columns, int64_t gap) {
  const int64_t count = pictures.size(0), height = pictures.size(1), width = pictures.size(2);
  columns = std::min(columns, count);
  const int64_t rows = (count + columns - 1) / columns;
  Tensor grid = at::full({rows * (height + gap) + gap, columns * (width + gap) + gap, 3}, 255, at::kByte);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t y = gap + (i / columns) * (height + gap), x = gap + (i % columns) * (width + gap);
    grid.narrow(0, y, height).narrow(1, x, width).copy_(pictures[i]);
  }
  return grid;
}

int64_t grid_columns(int64_t count) {
  const auto rows = std::max<int64_t>(1, std::llround(std::sqrt(static_cast<double>(count))));
  return (count + rows - 1) / rows;
}

}  // namespace emulsion::generate
