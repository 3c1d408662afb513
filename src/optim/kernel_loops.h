// The element loops of the optimizer, compiled for several instruction sets; the best is chosen at
// load time.
#pragma once

#include <array>
#include <cstdint>

namespace emulsion::optim::kernels {

/// Factors of one AdamW step for one tensor.
struct AdamWFactors {
  float grad_scale;  // multiplies the gradient
  float keep;        // 1 - lr * weight_decay
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float step_size;  // lr / (1 - beta1^t)
  float root2;      // sqrt(1 - beta2^t)
  float eps;
};

/// Decoupled weight decay, moments and update of n elements.
/// Source: Loshchilov & Hutter 2019, arXiv:1711.05101, alg. 2, in the operation order of
/// torch.optim.AdamW.
void adamw(const AdamWFactors& f, const float* grad, float* master, float* moment1, float* moment2,
           int64_t n);

/// average += weight (value - average).
void lerp(const float* value, float* average, float weight, int64_t n);

/// bfloat16 (as its bits) from float32, rounded to nearest even; NaN stays NaN.
void to_bfloat16(const float* value, uint16_t* bits, int64_t n);
void from_bfloat16(const uint16_t* bits, float* value, int64_t n);

/// float32 from two halves: high << 16, plus low as a signed number.
void join(const uint16_t* high, const uint16_t* low, float* value, int64_t n);
/// And back, bit for bit. `high` is the nearest bfloat16; half-way, the one farther from 0.
void split(const float* value, uint16_t* high, uint16_t* low, int64_t n);

/// bfloat16 from float32, upwards (in magnitude) with the probability that makes the expected value right. Number i takes
/// 16 random bits: the hash "lowbias32" (Wellons 2018, https://nullprogram.com/blog/2018/07/31/) of key + first + i.
void to_bfloat16_at_random(const float* value, uint16_t* bits, uint32_t key, int64_t first, int64_t n);

inline constexpr int64_t kEightBitBlock = 256;  // numbers that share a scale
inline constexpr float kLeastScale = 1e-38F;   // divides a block of zeros

/// The 256 numbers of an 8-bit type, and a short way to the nearest. A cell is all floats whose upper 16 bits are the same: at most
/// one bound between two numbers lies in it.
struct EightBitTable {
  static constexpr int32_t kFirstCell = 104 << 7;                     // 2^-23: below it all is 0
  static constexpr int32_t kCells = (127 << 7) - kFirstCell + 1;      // up to 1
  std::array<float, 256> numbers;                                     // rising
  std::array<int32_t, 2 * kCells> nearest;       // to the least of each cell; again for negative numbers
  std::array<float, 2 * 256> limits;  // size above which a number's neighbour, away from 0, is nearer; for both signs
};

/// number * scale.
void from_eight_bit(const EightBitTable& table, const uint8_t* codes, float scale, float* value, int64_t n);
/// Codes of at most 256 values, the largest of which by size is the scale. -> the scale
float to_eight_bit(const EightBitTable& table, const float* value, uint8_t* codes, int64_t n);

/// Sum of squares, in double.
double sum_of_squares(const float* value, int64_t n);

}  // namespace emulsion::optim::kernels
