#include "nn/linear_loops.h"

#include <algorithm>

#include "core/clones.h"

namespace emulsion::nn::products {

EMULSION_CLONES void add_rows(const float* x, int64_t ld, int64_t rows, int64_t width, float* sums, bool add) {
  if (!add) std::fill_n(sums, width, 0.0f);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < width; ++c) sums[c] += x[i * ld + c];
  }
}

void add_rows(const double* x, int64_t ld, int64_t rows, int64_t width, double* sums, bool add) {
  if (!add) std::fill_n(sums, width, 0.0);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < width; ++c) sums[c] += x[i * ld + c];
  }
}

}  // namespace emulsion::nn::products
