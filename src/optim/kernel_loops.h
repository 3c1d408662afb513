// The element loops of the optimizer, compiled for several instruction sets; the best is chosen at
// load time.
#pragma once

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

/// Sum of squares, in double.
double sum_of_squares(const float* value, int64_t n);

}  // namespace emulsion::optim::kernels
