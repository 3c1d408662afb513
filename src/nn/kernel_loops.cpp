#include "nn/kernel_loops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "core/clones.h"
#include "nn/linear_loops.h"

#define EMULSION_INLINE static inline __attribute__((always_inline))

namespace emulsion::nn::kernels {
namespace {

/// e^x for float32, within 2 units in the last place; branch-free, so that loops over it become vector code.
/// Range reduction x = n ln 2 + r, |r| <= ln 2 / 2, then the Taylor polynomial of degree 7.
EMULSION_INLINE float exponential(float x) {
  x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  const float n = std::rint(x * 1.44269504f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts (Cody & Waite 1980)
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

EMULSION_INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

/// Distribution function and density of the standard normal, which are gelu and what its derivative needs.
/// Source: Abramowitz & Stegun 7.1.26 for erf, error below 1.5e-7.
struct Normal {
  float distribution, density;
};
EMULSION_INLINE Normal normal(float x) {
  const float e = exponential(-0.5f * x * x);
  const float z = std::fabs(x) * 0.70710678f;
  const float t = 1.0f / (1.0f + 0.3275911f * z);
  const float poly = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  const float tail = 0.5f * poly * e;  // beyond |x|
  return {x < 0 ? tail : 1.0f - tail, 0.39894228f * e};
}

/// Normalised and scaled: (x - center) * factor + bias, per channel. The mean is taken off first, so that a mean far
/// larger than the spread costs no digits.
struct Affine {
  const float *center, *factor, *bias;
};

std::vector<float> factors_of(const NormShape& s, const float* weight, const float* rstd) {
  std::vector<float> factor(s.channels);
  const int64_t width = s.channels / s.groups;
  for (int64_t c = 0; c < s.channels; ++c) factor[c] = weight[c] * rstd[c / width];
  return factor;
}

/// Adds the channels of each group.
void fold_groups(const NormShape& s, const std::vector<float>& channel, std::vector<double>& group) {
  const int64_t width = s.channels / s.groups;
  for (int64_t c = 0; c < s.channels; ++c) group[c / width] += channel[c];
}

EMULSION_CLONES void add_squared_differences(const float* x, const float* center, int64_t rows, int64_t width, float* sum) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < width; ++c) {
      const float d = x[i * width + c] - center[c];
      sum[c] += d * d;
    }
  }
}

EMULSION_CLONES void scale_rows(const float* x, const Affine& a, int64_t rows, int64_t width, float* y) {
  const float *center = a.center, *factor = a.factor, *bias = a.bias;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < width; ++c) y[i * width + c] = (x[i * width + c] - center[c]) * factor[c] + bias[c];
  }
}

EMULSION_CLONES void scale_rows_silu(const float* x, const Affine& a, int64_t rows, int64_t width, float* y) {
  const float *center = a.center, *factor = a.factor, *bias = a.bias;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < width; ++c) {
      const float z = (x[i * width + c] - center[c]) * factor[c] + bias[c];
      y[i * width + c] = z * sigmoid(z);
    }
  }
}

/// dz = dy * silu'(z), z recomputed.
EMULSION_CLONES void silu_gradient(const float* x, const float* dy, const Affine& a, int64_t rows, int64_t width,
                                   float* dz) {
  const float *center = a.center, *factor = a.factor, *bias = a.bias;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < width; ++c) {
      const float z = (x[i * width + c] - center[c]) * factor[c] + bias[c];
      const float s = sigmoid(z);
      dz[i * width + c] = dy[i * width + c] * s * (1.0f + z * (1.0f - s));
    }
  }
}

/// Per channel: sums of dz and of dz times the normalised x.
EMULSION_CLONES void add_products(const float* dz, const float* x, const float* mean, const float* rstd, int64_t rows,
                                  int64_t width, float* sum, float* product) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < width; ++c) {
      const float d = dz[i * width + c];
      sum[c] += d;
      product[c] += d * (x[i * width + c] - mean[c]) * rstd[c];
    }
  }
}

/// dx = a dz + b (x - center) + c0, per channel.
EMULSION_CLONES void combine(const float* dz, const float* x, const float* center, const float* a, const float* b,
                             const float* c0, int64_t rows, int64_t width, float* dx) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < width; ++c) dx[i * width + c] = a[c] * dz[i * width + c] + b[c] * (x[i * width + c] - center[c]) + c0[c];
  }
}

std::vector<float> per_channel(const NormShape& s, const float* group) {
  std::vector<float> channel(s.channels);
  const int64_t width = s.channels / s.groups;
  for (int64_t c = 0; c < s.channels; ++c) channel[c] = group[c / width];
  return channel;
}

}  // namespace

void group_norm_forward(const NormShape& s, const float* x, const float* weight, const float* bias, float eps, bool silu,
                        float* y, float* mean, float* rstd) {
  const double count = static_cast<double>(s.positions) * static_cast<double>(s.channels / s.groups);
  std::vector<float> sum(s.channels);
  std::vector<double> total(s.groups, 0.0);
  products::add_rows(x, s.channels, s.positions, s.channels, sum.data(), /*add=*/false);
  fold_groups(s, sum, total);
  for (int64_t g = 0; g < s.groups; ++g) mean[g] = static_cast<float>(total[g] / count);

  std::vector<float> squares(s.channels, 0.0f);
  std::vector<double> spread(s.groups, 0.0);
  const std::vector<float> means = per_channel(s, mean);
  add_squared_differences(x, means.data(), s.positions, s.channels, squares.data());
  fold_groups(s, squares, spread);
  for (int64_t g = 0; g < s.groups; ++g) rstd[g] = static_cast<float>(1.0 / std::sqrt(spread[g] / count + eps));

  const std::vector<float> factors = factors_of(s, weight, rstd);
  (silu ? scale_rows_silu : scale_rows)(x, {means.data(), factors.data(), bias}, s.positions, s.channels, y);
}

void group_norm_backward(const NormShape& s, const float* x, const float* dy, const float* weight, const float* bias,
                         const float* mean, const float* rstd, bool silu, float* dx, float* dweight, float* dbias) {
  const std::vector<float> means = per_channel(s, mean), rstds = per_channel(s, rstd);
  const float* dz = dy;
  std::vector<float> buffer;
  if (silu) {
    const std::vector<float> factors = factors_of(s, weight, rstd);
    buffer.resize(s.size());
    silu_gradient(x, dy, {means.data(), factors.data(), bias}, s.positions, s.channels, buffer.data());
    dz = buffer.data();
  }
  std::fill(dbias, dbias + s.channels, 0.0f);
  std::fill(dweight, dweight + s.channels, 0.0f);
  add_products(dz, x, means.data(), rstds.data(), s.positions, s.channels, dbias, dweight);

  // dx = rstd (w dz - mean_g(w dz) - xhat mean_g(w dz xhat)), xhat = (x - mean) rstd.
  const int64_t width = s.channels / s.groups;
  const double count = static_cast<double>(s.positions) * static_cast<double>(width);
  std::vector<double> sum(s.groups, 0.0), product(s.groups, 0.0);
  for (int64_t c = 0; c < s.channels; ++c) {
    sum[c / width] += static_cast<double>(weight[c]) * dbias[c];
    product[c / width] += static_cast<double>(weight[c]) * dweight[c];
  }
  std::vector<float> a(s.channels), b(s.channels), c0(s.channels);
  for (int64_t c = 0; c < s.channels; ++c) {
    const int64_t g = c / width;
    const double r = rstd[g], slope = -r * r * product[g] / count;
    a[c] = static_cast<float>(r * weight[c]);
    b[c] = static_cast<float>(slope);
    c0[c] = static_cast<float>(-r * sum[g] / count);
  }
  combine(dz, x, means.data(), a.data(), b.data(), c0.data(), s.positions, s.channels, dx);
}

EMULSION_CLONES void geglu_forward(const float* x, int64_t width, float* out) {
  for (int64_t i = 0; i < width; ++i) {
    const float gate = x[width + i];
    out[i] = x[i] * gate * normal(gate).distribution;
  }
}

EMULSION_CLONES void geglu_backward(const float* x, const float* dout, int64_t width, float* dx) {
  for (int64_t i = 0; i < width; ++i) {
    const float gate = x[width + i];
    const Normal n = normal(gate);
    dx[i] = dout[i] * gate * n.distribution;
    dx[width + i] = dout[i] * x[i] * (n.distribution + gate * n.density);
  }
}

EMULSION_CLONES void quick_gelu_forward(const float* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = x[i] * sigmoid(1.702f * x[i]);
}

EMULSION_CLONES void quick_gelu_backward(const float* x, const float* dout, int64_t count, float* dx) {
  for (int64_t i = 0; i < count; ++i) {
    const float z = 1.702f * x[i], s = sigmoid(z);
    dx[i] = dout[i] * s * (1.0f + z * (1.0f - s));
  }
}

}  // namespace emulsion::nn::kernels
