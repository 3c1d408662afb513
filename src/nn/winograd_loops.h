// The transforms of Winograd's minimal filtering F(2x2, 3x3) on plain float32 arrays: four outputs of a 3 x 3 correlation
// with 16 multiplications instead of 36, y = A^T [(G g G^T) . (B^T d B)] A. Each loop runs over channels.
// Source: Lavin & Gray 2016, arXiv:1509.09308, section 4.1; the gradients are the transposed maps.
//
//   B^T = 1  0 -1  0     G = 1    0    0     A^T = 1  1  1  0
//         0  1  1  0         1/2  1/2  1/2         0  1 -1 -1
//         0 -1  1  0         1/2 -1/2  1/2
//         0  1  0 -1         0    0    1
//
// A transformed array has 16 parts (row-major 4 x 4), `stride` numbers apart.
#pragma once

#include <cstdint>

namespace emulsion::nn::winograd {

/// B^T d B; d: the 16 pixels of a 4 x 4 tile, row-major.
void transform_input(const float* const* d, int64_t channels, float* v, int64_t stride);

/// A^T m A + bias; y: the four pixels of a 2 x 2 tile. A pixel outside of the picture may be any memory that nobody reads.
void transform_output(const float* m, int64_t stride, int64_t channels, const float* bias, float* const* y);

/// A dy A^T, the way back through transform_output; dy: the four pixels.
void transform_output_gradient(const float* const* dy, int64_t channels, float* dm, int64_t stride);

/// G g G^T; g [3, 3, channels].
void transform_weight(const float* g, int64_t channels, float* u, int64_t stride);

/// G^T du G, the way back through transform_weight; dg [3, 3, channels].
void transform_weight_gradient(const float* du, int64_t stride, int64_t channels, float* dg);

}  // namespace emulsion::nn::winograd
