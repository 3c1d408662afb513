#include "nn/kernel_loops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <vector>

#include "core/clones.h"
#include "nn/attention_parts.h"
#include "nn/linear_loops.h"

#define EMULSION_INLINE static inline __attribute__((always_inline))

namespace emulsion::nn::kernels {
namespace {

using c10::BFloat16;

constexpr int64_t kBlock = 4096;  // widened numbers that stay in the first cache while the loops pass over them

EMULSION_CLONES void widen(const BFloat16* x, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = tiles::widened(x[i]);
}

EMULSION_CLONES void narrow(const float* x, int64_t count, BFloat16* to) {
  for (int64_t i = 0; i < count; ++i) to[i].x = tiles::narrowed(x[i]);
}

/// Where a block of numbers is computed with: float32 where it lies, all else in a buffer of `count` numbers.
template <class T>
class Block {
 public:
  explicit Block(int64_t count) : numbers_(std::make_unique_for_overwrite<float[]>(static_cast<size_t>(count))) {}
  const float* read(const T* x, int64_t count) {
    widen(x, count, numbers_.get());
    return numbers_.get();
  }
  float* place(T*) { return numbers_.get(); }
  void write(T* y, int64_t count) { narrow(numbers_.get(), count, y); }

 private:
  std::unique_ptr<float[]> numbers_;
};

template <>
class Block<float> {
 public:
  explicit Block(int64_t) {}
  const float* read(const float* x, int64_t) { return x; }
  float* place(float* y) { return y; }
  void write(float*, int64_t) {}
};

/// Rows of `width` numbers that a block holds.
template <class T>
int64_t rows_of_block(int64_t rows, int64_t width) {
  return std::is_same_v<T, float> ? std::max<int64_t>(1, rows) : std::max<int64_t>(1, kBlock / width);
}

/// Calls f(first number, rows, numbers) for the blocks of `rows` rows.
template <class T, class F>
void for_blocks(int64_t rows, int64_t width, const F& f) {
  const int64_t most = rows_of_block<T>(rows, width);
  for (int64_t row = 0; row < rows; row += most) {
    const int64_t count = std::min(most, rows - row);
    f(row * width, count, count * width);
  }
}

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
    for (int64_t c = 0; c < width; ++c)
      dx[i * width + c] = a[c] * dz[i * width + c] + b[c] * (x[i * width + c] - center[c]) + c0[c];
  }
}

std::vector<float> per_channel(const NormShape& s, const float* group) {
  std::vector<float> channel(s.channels);
  const int64_t width = s.channels / s.groups;
  for (int64_t c = 0; c < s.channels; ++c) channel[c] = group[c / width];
  return channel;
}

}  // namespace

template <class T>
void group_norm_forward(const NormShape& s, const T* x, const float* weight, const float* bias, float eps, bool silu, T* y,
                        float* mean, float* rstd) {
  const double count = static_cast<double>(s.positions) * static_cast<double>(s.channels / s.groups);
  const int64_t most = rows_of_block<T>(s.positions, s.channels) * s.channels;
  Block<T> in(most), out(most);
  const auto each = [&](const auto& f) { for_blocks<T>(s.positions, s.channels, f); };

  std::vector<float> sum(s.channels);
  std::vector<double> total(s.groups, 0.0);
  each([&](int64_t at, int64_t rows, int64_t n) {
    products::add_rows(in.read(x + at, n), s.channels, rows, s.channels, sum.data(), /*add=*/at > 0);
  });
  fold_groups(s, sum, total);
  for (int64_t g = 0; g < s.groups; ++g) mean[g] = static_cast<float>(total[g] / count);

  std::vector<float> squares(s.channels, 0.0f);
  std::vector<double> spread(s.groups, 0.0);
  const std::vector<float> means = per_channel(s, mean);
  each([&](int64_t at, int64_t rows, int64_t n) {
    add_squared_differences(in.read(x + at, n), means.data(), rows, s.channels, squares.data());
  });
  fold_groups(s, squares, spread);
  for (int64_t g = 0; g < s.groups; ++g) rstd[g] = static_cast<float>(1.0 / std::sqrt(spread[g] / count + eps));

  const std::vector<float> factors = factors_of(s, weight, rstd);
  const auto scale = silu ? scale_rows_silu : scale_rows;
  each([&](int64_t at, int64_t rows, int64_t n) {
    scale(in.read(x + at, n), {means.data(), factors.data(), bias}, rows, s.channels, out.place(y + at));
    out.write(y + at, n);
  });
}

template <class T>
void group_norm_backward(const NormShape& s, const T* x, const T* dy, const float* weight, const float* bias,
                         const float* mean, const float* rstd, bool silu, T* dx, float* dweight, float* dbias) {
  const std::vector<float> means = per_channel(s, mean), rstds = per_channel(s, rstd), factors = factors_of(s, weight, rstd);
  const int64_t most = rows_of_block<T>(s.positions, s.channels) * s.channels;
  Block<T> in(most), out(most);
  const auto each = [&](const auto& f) { for_blocks<T>(s.positions, s.channels, f); };
  const auto buffer = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(silu ? s.size() : 0));

  // dz, the gradient before SiLU, is computed once and kept.
  const auto dz_of = [&](Block<T>& block, int64_t at, int64_t n) { return silu ? buffer.get() + at : block.read(dy + at, n); };
  std::fill(dbias, dbias + s.channels, 0.0f);
  std::fill(dweight, dweight + s.channels, 0.0f);
  each([&](int64_t at, int64_t rows, int64_t n) {
    const float* const xs = in.read(x + at, n);
    if (silu) {
      silu_gradient(xs, out.read(dy + at, n), {means.data(), factors.data(), bias}, rows, s.channels, buffer.get() + at);
    }
    add_products(dz_of(out, at, n), xs, means.data(), rstds.data(), rows, s.channels, dbias, dweight);
  });

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
  Block<T> gradient(most);
  each([&](int64_t at, int64_t rows, int64_t n) {
    combine(dz_of(out, at, n), in.read(x + at, n), means.data(), a.data(), b.data(), c0.data(), rows, s.channels,
            gradient.place(dx + at));
    gradient.write(dx + at, n);
  });
}

namespace {

EMULSION_CLONES void geglu_row(const float* x, int64_t width, float* out) {
  for (int64_t i = 0; i < width; ++i) {
    const float gate = x[width + i];
    out[i] = x[i] * gate * normal(gate).distribution;
  }
}

EMULSION_CLONES void geglu_row_gradient(const float* x, const float* dout, int64_t width, float* dx) {
  for (int64_t i = 0; i < width; ++i) {
    const float gate = x[width + i];
    const Normal n = normal(gate);
    dx[i] = dout[i] * gate * n.distribution;
    dx[width + i] = dout[i] * x[i] * (n.distribution + gate * n.density);
  }
}

EMULSION_CLONES void quick_gelu(const float* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = x[i] * sigmoid(1.702f * x[i]);
}

EMULSION_CLONES void quick_gelu_gradient(const float* x, const float* dout, int64_t count, float* dx) {
  for (int64_t i = 0; i < count; ++i) {
    const float z = 1.702f * x[i], s = sigmoid(z);
    dx[i] = dout[i] * s * (1.0f + z * (1.0f - s));
  }
}

}  // namespace

template <class T>
void geglu_forward(const T* x, int64_t rows, int64_t width, T* out) {
  Block<T> in(2 * width), result(width);
  for (int64_t i = 0; i < rows; ++i, x += 2 * width, out += width) {
    geglu_row(in.read(x, 2 * width), width, result.place(out));
    result.write(out, width);
  }
}

template <class T>
void geglu_backward(const T* x, const T* dout, int64_t rows, int64_t width, T* dx) {
  Block<T> in(2 * width), gradient(width), result(2 * width);
  for (int64_t i = 0; i < rows; ++i, x += 2 * width, dout += width, dx += 2 * width) {
    geglu_row_gradient(in.read(x, 2 * width), gradient.read(dout, width), width, result.place(dx));
    result.write(dx, 2 * width);
  }
}

template <class T>
void quick_gelu_forward(const T* x, int64_t count, T* out) {
  Block<T> in(kBlock), result(kBlock);
  for_blocks<T>(count, 1, [&](int64_t at, int64_t, int64_t n) {
    quick_gelu(in.read(x + at, n), n, result.place(out + at));
    result.write(out + at, n);
  });
}

template <class T>
void quick_gelu_backward(const T* x, const T* dout, int64_t count, T* dx) {
  Block<T> in(kBlock), gradient(kBlock), result(kBlock);
  for_blocks<T>(count, 1, [&](int64_t at, int64_t, int64_t n) {
    quick_gelu_gradient(in.read(x + at, n), gradient.read(dout + at, n), n, result.place(dx + at));
    result.write(dx + at, n);
  });
}

#define EMULSION_INSTANTIATE(T)                                                                                              \
  template void group_norm_forward<T>(const NormShape&, const T*, const float*, const float*, float, bool, T*, float*, float*); \
  template void group_norm_backward<T>(const NormShape&, const T*, const T*, const float*, const float*, const float*,       \
                                       const float*, bool, T*, float*, float*);                                              \
  template void geglu_forward<T>(const T*, int64_t, int64_t, T*);                                                            \
  template void geglu_backward<T>(const T*, const T*, int64_t, int64_t, T*);                                                 \
  template void quick_gelu_forward<T>(const T*, int64_t, T*);                                                                \
  template void quick_gelu_backward<T>(const T*, const T*, int64_t, T*)
EMULSION_INSTANTIATE(float);
EMULSION_INSTANTIATE(BFloat16);

}  // namespace emulsion::nn::kernels
