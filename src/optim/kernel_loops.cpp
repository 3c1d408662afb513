#include "optim/kernel_loops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/clones.h"

namespace emulsion::optim::kernels {

EMULSION_CLONES void adamw(const AdamWFactors& factors, const float* __restrict grad,
                           float* __restrict master, float* __restrict moment1,
                           float* __restrict moment2, int64_t n) {
  const AdamWFactors f = factors;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * f.grad_scale;
    const float m = moment1[i] + (g - moment1[i]) * f.one_minus_beta1;
    const float v = moment2[i] * f.beta2 + f.one_minus_beta2 * g * g;
    moment1[i] = m;
    moment2[i] = v;
    master[i] = master[i] * f.keep - f.step_size * (m / (std::sqrt(v) / f.root2 + f.eps));
  }
}

EMULSION_CLONES void lerp(const float* __restrict value, float* __restrict average, float weight,
                          int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) average[i] += weight * (value[i] - average[i]);
}

EMULSION_CLONES void to_bfloat16(const float* __restrict value, uint16_t* __restrict bits,
                                 int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    uint32_t word;
    std::memcpy(&word, value + i, sizeof word);
    const uint32_t rounded = (word + 0x7FFF + ((word >> 16) & 1)) >> 16;
    const bool nan = (word & 0x7FFFFFFF) > 0x7F800000;
    bits[i] = static_cast<uint16_t>(nan ? 0x7FC0 : rounded);
  }
}

EMULSION_CLONES void from_bfloat16(const uint16_t* __restrict bits, float* __restrict value,
                                   int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t word = uint32_t{bits[i]} << 16;
    std::memcpy(value + i, &word, sizeof word);
  }
}

EMULSION_CLONES void join(const uint16_t* __restrict high, const uint16_t* __restrict low, float* __restrict value, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t word = (uint32_t{high[i]} << 16) + static_cast<uint32_t>(static_cast<int16_t>(low[i]));
    std::memcpy(value + i, &word, sizeof word);
  }
}

EMULSION_CLONES void split(const float* __restrict value, uint16_t* __restrict high, uint16_t* __restrict low, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    uint32_t word;
    std::memcpy(&word, value + i, sizeof word);
    high[i] = static_cast<uint16_t>((word + 0x8000) >> 16);
    low[i] = static_cast<uint16_t>(word);
  }
}

EMULSION_CLONES void to_bfloat16_at_random(const float* __restrict value, uint16_t* __restrict bits, uint32_t key, int64_t first,
                                           int64_t n) {
  const uint32_t begin = key + static_cast<uint32_t>(first);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    uint32_t x = begin + static_cast<uint32_t>(i), word;
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    x ^= x >> 16;
    std::memcpy(&word, value + i, sizeof word);
    bits[i] = static_cast<uint16_t>((word + (x & 0xFFFF)) >> 16);
  }
}

EMULSION_CLONES void from_eight_bit(const EightBitTable& table, const uint8_t* __restrict codes, float scale,
                                    float* __restrict value, int64_t n) {
  const float* const numbers = table.numbers.data();
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) value[i] = numbers[codes[i]] * scale;
}

EMULSION_CLONES float to_eight_bit(const EightBitTable& table, const float* __restrict value, uint8_t* __restrict codes, int64_t n) {
  float scale = 0;
#pragma omp simd reduction(max : scale)
  for (int64_t i = 0; i < n; ++i) scale = std::max(scale, std::fabs(value[i]));
  const float inverse = 1 / std::max(scale, kLeastScale);
  const int32_t* const nearest = table.nearest.data();
  const float* const limits = table.limits.data();
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float x = value[i] * inverse, size = std::min(std::fabs(x), 1.0F);
    const int32_t negative = x < 0;
    const int32_t cell = std::max((std::bit_cast<int32_t>(size) >> 16) - EightBitTable::kFirstCell, 0);
    const int32_t code = nearest[negative * EightBitTable::kCells + cell];
    const int32_t farther = size > limits[negative * 256 + code];
    codes[i] = static_cast<uint8_t>(code + farther * (1 - 2 * negative));
  }
  return scale;
}

/// Reads four places at once: one stream alone leaves half of the memory's speed unused.
EMULSION_CLONES double sum_of_squares(const float* value, int64_t n) {
  const int64_t quarter = n / 4;
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < quarter; ++i) {
    const double a = value[i], b = value[i + quarter];
    const double c = value[i + 2 * quarter], d = value[i + 3 * quarter];
    sum += (a * a + b * b) + (c * c + d * d);
  }
  for (int64_t i = 4 * quarter; i < n; ++i) sum += double{value[i]} * value[i];
  return sum;
}

}  // namespace emulsion::optim::kernels
