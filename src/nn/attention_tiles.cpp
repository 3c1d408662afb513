#include "nn/attention_tiles.h"

#include <ATen/native/CPUBlas.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors only pass between functions that are inlined

namespace emulsion::nn::tiles {
namespace {

void nothing() {}

#define TILE_SPACE portable32
#define TILE_TARGET
#define TILE_REAL float
#define TILE_BYTES 16
#define TILE_ROWS 4
#include "nn/attention_tiles.inc"

#define TILE_SPACE portable64
#define TILE_TARGET
#define TILE_REAL double
#define TILE_BYTES 16
#define TILE_ROWS 4
#include "nn/attention_tiles.inc"

#if defined(__x86_64__)
#define TILE_SPACE avx2
#define TILE_TARGET __attribute__((target("avx2,fma")))
#define TILE_REAL float
#define TILE_BYTES 32
#define TILE_ROWS 6
#include "nn/attention_tiles.inc"

#define AVX512_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")))
#define TILE_SPACE avx512
#define TILE_TARGET AVX512_TARGET
#define TILE_REAL float
#define TILE_BYTES 64
#define TILE_ROWS 12
#include "nn/attention_tiles.inc"

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && has_avx2();
}
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

// --- bfloat16 operands: rows of B in pairs, [k / 2][n][2], as the instructions for bfloat16 dot products read them -----------

using c10::BFloat16;
constexpr int64_t kPairPanel = 64, kPairLane = 16;  // the widths that oneDNN's micro-kernels accept: 16, 32, 48, 64
constexpr int64_t kOfLine = 32, kRowsAhead = 32;  // numbers of a cache line; how far ahead packing fetches

int64_t pair_width(int64_t n, int64_t column) {
  return std::min((n - column + kPairLane - 1) / kPairLane * kPairLane, kPairPanel);
}

/// The bits of two bfloat16 next to each other.
uint32_t pair_of(const BFloat16& first, const BFloat16& second) { return first.x | static_cast<uint32_t>(second.x) << 16; }

/// Row k of an odd k is zero.
void pack_rows_in_pairs(int64_t k, int64_t n, const BFloat16* source, int64_t ld, BFloat16* packed) {
  for (int64_t column = 0; column < n; column += kPairPanel) {
    const int64_t width = pair_width(n, column), used = std::min(n - column, kPairPanel);
    for (int64_t row = 0; row < k; row += 2, packed += 2 * width) {
      const BFloat16 *first = source + row * ld + column, *second = first + ld;
      auto* out = reinterpret_cast<uint32_t*>(packed);
      for (int64_t j = 0; row + 1 < k && j < used; ++j) out[j] = pair_of(first[j], second[j]);
      for (int64_t j = 0; row + 1 == k && j < used; ++j) out[j] = first[j].x;
      std::fill(out + used, out + width, 0);
    }
  }
}

void pack_columns_in_pairs(int64_t k, int64_t n, const BFloat16* source, int64_t ld, BFloat16* packed) {
  for (int64_t column = 0; column < n; column += kPairPanel) {
    const int64_t width = pair_width(n, column), used = std::min(n - column, kPairPanel);
    auto* out = reinterpret_cast<uint32_t*>(packed);
    for (int64_t j = 0; j < width; ++j) {
      const BFloat16* from = source + (column + j) * ld;
      for (int64_t row = 0; row < k; row += 2) {
        const BFloat16 second = j < used && row + 1 < k ? from[row + 1] : BFloat16(0);
        out[row / 2 * width + j] = j < used ? pair_of(from[row], second) : 0;
      }
    }
    packed += (k + k % 2) * width;
  }
}

void multiply_slowly(int64_t m, int64_t n, int64_t k, const BFloat16* a, int64_t lda, const BFloat16* packed, float* c, int64_t ldc,
                     bool add) {
  for (int64_t column = 0; column < n; column += kPairPanel) {
    const int64_t width = pair_width(n, column);
    for (int64_t row = 0; row < m; ++row) {
      for (int64_t j = 0; j < width; ++j) {
        float sum = add ? c[row * ldc + column + j] : 0;
        for (int64_t i = 0; i < k; ++i) sum += float(a[row * lda + i]) * float(packed[(i / 2 * width + j) * 2 + i % 2]);
        c[row * ldc + column + j] = sum;
      }
    }
    packed += (k + k % 2) * width;
  }
}

#if defined(__x86_64__)
/// The first `count` of 16 or 32 lanes, `count` may be more.
uint16_t first_of_16(int64_t count) { return static_cast<uint16_t>(count < 16 ? (1u << count) - 1 : ~0u); }
uint32_t first_of_32(int64_t count) { return count < 32 ? (1u << count) - 1 : ~0u; }

AVX512_TARGET inline avx512::BitVector bits_of(uint16_t used, const BFloat16* from) {
  return __builtin_convertvector(reinterpret_cast<avx512::HalfVector>(_mm256_maskz_loadu_epi16(used, from)), avx512::BitVector);
}

/// As pack_rows_in_pairs. Rows of a large weight are short runs far apart, which the processor does not fetch ahead by itself.
AVX512_TARGET void interleave_rows(int64_t k, int64_t n, const BFloat16* source, int64_t ld, BFloat16* packed) {
  for (int64_t column = 0; column < n; column += kPairPanel) {
    const int64_t width = pair_width(n, column);
    for (int64_t row = 0; row < k; row += 2, packed += 2 * width) {
      for (int64_t j = 0; j < width; j += kPairLane) {
        const BFloat16* from = source + row * ld + column + j;
        if (j % kOfLine == 0) {
          __builtin_prefetch(from + kRowsAhead * ld);
          __builtin_prefetch(from + (kRowsAhead + 1) * ld);
        }
        const uint16_t used = first_of_16(n - column - j), both = row + 1 < k ? used : 0;
        const avx512::BitVector low = bits_of(used, from), high = bits_of(both, both ? from + ld : from) << 16;
        avx512::store(reinterpret_cast<float*>(packed + 2 * j), reinterpret_cast<avx512::Vector>(low | high));
      }
    }
  }
}

/// packed [pairs of k <= 32, 16 columns of `width`] = source [columns, k] turned, a pair as one number.
AVX512_TARGET void turn_pairs(int64_t k, int64_t columns, const BFloat16* source, int64_t ld, BFloat16* packed, int64_t width) {
  avx512::Vector rows[kPairLane];
  const uint32_t used = first_of_32(k);
#pragma GCC unroll 16
  for (int64_t r = 0; r < kPairLane; ++r) {
    rows[r] = r < columns ? reinterpret_cast<avx512::Vector>(_mm512_maskz_loadu_epi16(used, source + r * ld)) : avx512::Vector{};
  }
  avx512::exchange<1>(rows);
#pragma GCC unroll 16
  for (int64_t r = 0; r < kPairLane; ++r) {
    if (2 * r < k) avx512::store(reinterpret_cast<float*>(packed + 2 * r * width), rows[r]);
  }
}

/// As pack_columns_in_pairs.
void turn_columns(int64_t k, int64_t n, const BFloat16* source, int64_t ld, BFloat16* packed) {
  for (int64_t column = 0; column < n; column += kPairPanel) {
    const int64_t width = pair_width(n, column);
    for (int64_t j = 0; j < width; j += kPairLane) {
      for (int64_t row = 0; row < k; row += 2 * kPairLane) {
        turn_pairs(k - row, n - column - j, source + (column + j) * ld + row, ld, packed + row * width + 2 * j, width);
      }
    }
    packed += (k + k % 2) * width;
  }
}

/// Through oneDNN's generated micro-kernels: AMX where there is one, else AVX512-BF16.
void multiply_brgemm(int64_t m, int64_t n, int64_t k, const BFloat16* a, int64_t lda, const BFloat16* packed, float* c, int64_t ldc,
                     bool add) {
  const int64_t depth = k + k % 2;
  for (int64_t column = 0; column < n; column += kPairPanel) {
    const int64_t width = pair_width(n, column);
    at::native::cpublas::brgemm(m, width, depth, lda, width, ldc, add, a, packed, c + column, /*is_vnni=*/true);
    packed += depth * width;
  }
}

#define BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma,prefer-vector-width=512")))
#define BF16_INLINE BF16_TARGET static inline __attribute__((always_inline))
constexpr float kLog2E = 1.44269504f;

/// 2^y to about 1e-6, 0 below 2^-126; what is not a number stays so. For weights that are rounded to bfloat16.
BF16_INLINE __m512 power_of_two(__m512 y) {
  const __mmask16 seen = _mm512_cmp_ps_mask(y, _mm512_set1_ps(-126), _CMP_NLT_UQ);
  const __m512 shift = _mm512_set1_ps(12582912.0f), shifted = y + shift;  // 1.5 * 2^23: the low bits are round(y)
  const __m512 r = y - (shifted - shift);
  __m512 p = r * 1.3333558e-3f + 9.6181291e-3f;  // ln(2)^i / i!
  p = p * r + 5.5504109e-2f;
  p = p * r + 2.4022651e-1f;
  p = p * r + 6.9314718e-1f;
  p = p * r + 1.0f;
  const avx512::BitVector bits = reinterpret_cast<avx512::BitVector>(p) + (reinterpret_cast<avx512::BitVector>(shifted) << 23);
  return _mm512_maskz_mov_ps(seen, reinterpret_cast<__m512>(bits));
}

BF16_INLINE void store_rounded(BFloat16* p, __m512 v) {
  const __m256bh half = _mm512_cvtneps_pbh(v);
  __builtin_memcpy(static_cast<void*>(p), &half, sizeof half);
}

/// By halves, so that the order is fixed and short.
BF16_INLINE float sum_of(__m512 v) {
  float x[kPairLane];
  __builtin_memcpy(x, &v, sizeof v);
  const __m256 half = _mm256_loadu_ps(x) + _mm256_loadu_ps(x + 8);
  __builtin_memcpy(x, &half, sizeof half);
  return ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7]));
}

BF16_INLINE float largest_of(const float* logits, int64_t end) {
  const float lowest = -std::numeric_limits<float>::infinity();
  __m512 first = _mm512_set1_ps(lowest), second = first;  // max(x, y) is y if x is not a number
  int64_t j = 0;
  for (; j + 32 <= end; j += 32) {
    first = _mm512_maskz_max_ps(0xffff, _mm512_loadu_ps(logits + j), first);
    second = _mm512_maskz_max_ps(0xffff, _mm512_loadu_ps(logits + j + 16), second);
  }
  if (j < end) first = _mm512_maskz_max_ps(0xffff, _mm512_loadu_ps(logits + j), first);
  float x[kPairLane];
  first = _mm512_maskz_max_ps(0xffff, first, second);
  __builtin_memcpy(x, &first, sizeof first);
  for (int64_t width = kPairLane / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) x[i] = std::max(x[i], x[i + width]);
  }
  return x[0];
}

/// As avx512::softmax.
BF16_TARGET void rounded_softmax(const SoftmaxTile<BFloat16>& t) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const int64_t end = (t.columns + kPairLane - 1) / kPairLane * kPairLane;
  const float scale = t.scale * kLog2E;
  for (int64_t r = 0; r < t.rows; ++r) {
    float* logits = t.logits + r * t.ld;
    BFloat16* weights = t.weights + r * t.ld;
    const int64_t count = std::clamp<int64_t>(t.visible + r * t.step, 0, t.columns);
    for (int64_t j = count; j < end; ++j) logits[j] = kLowest;
    const float before = t.maximum[r], now = std::max(before, largest_of(logits, end)), safe = now == kLowest ? 0 : now;
    __m512 sum{}, other{};
    for (int64_t j = 0; j < end; j += kPairLane) {
      const __m512 weight = power_of_two((_mm512_loadu_ps(logits + j) - safe) * scale);
      const __m512 next = sum + weight;
      sum = other, other = next;
      store_rounded(weights + j, weight);
    }
    const float factor = before == now ? 1 : std::exp((before - safe) * t.scale);
    t.maximum[r] = now;
    t.sum[r] = t.sum[r] * factor + sum_of(sum + other);
    if (factor == 1) continue;
    float* output = t.output + r * t.ld_output;
    for (int64_t c = 0; c < t.width; ++c) output[c] *= factor;
  }
}

/// As avx512::gradient.
BF16_TARGET void rounded_gradient(const GradientTile<BFloat16>& t) {
  const float scale = t.scale * kLog2E;
  for (int64_t r = 0; r < t.rows; ++r) {
    const int64_t row = r * t.ld, hidden = std::clamp<int64_t>(t.hidden + r * t.step, 0, t.columns);
    for (int64_t c = 0; c < t.columns; c += kPairLane) {
      const __m512 logit = _mm512_loadu_ps(t.logits + row + c) - _mm512_loadu_ps(t.maximum + c);
      __m512 weight = power_of_two(logit * scale - _mm512_loadu_ps(t.log_sum + c) * kLog2E);
      if (c < hidden) weight = _mm512_maskz_mov_ps(static_cast<uint16_t>(~first_of_16(hidden - c)), weight);
      const __m512 change = weight * (_mm512_loadu_ps(t.products + row + c) - _mm512_loadu_ps(t.delta + c));
      store_rounded(t.weights + row + c, weight);
      store_rounded(t.gradient + row + c, change);
    }
  }
}

void release_brgemm() { at::native::cpublas::brgemm_release(/*is_vnni=*/true); }
#endif

}  // namespace

template <>
const std::vector<TileOps<float>>& available<float>() {
  static const std::vector<TileOps<float>> all = [] {
    std::vector<TileOps<float>> found;
#if defined(__x86_64__)
    if (has_avx512()) found.push_back(avx512::ops("avx512"));
    if (has_avx2()) found.push_back(avx2::ops("avx2"));
#endif
    found.push_back(portable32::ops("portable"));
    return found;
  }();
  return all;
}

template <>
const std::vector<TileOps<double>>& available<double>() {
  static const std::vector<TileOps<double>> all = {portable64::ops("portable")};
  return all;
}

template <>
const std::vector<TileOps<BFloat16>>& available<BFloat16>() {
  static const std::vector<TileOps<BFloat16>> all = [] {
    std::vector<TileOps<BFloat16>> found;
#if defined(__x86_64__)
    if (has_avx512_bf16() && at::globalContext().userEnabledMkldnn()) {
      found.push_back({"brgemm", kPairPanel, kPairLane, 2, multiply_brgemm, nullptr, interleave_rows, turn_columns,
                       rounded_softmax, rounded_gradient, release_brgemm});
    }
#endif
    found.push_back({"pairs", kPairPanel, kPairLane, 2, multiply_slowly, nullptr, pack_rows_in_pairs, pack_columns_in_pairs,
                     portable32::softmax<BFloat16>, portable32::gradient<BFloat16>, nothing});
    return found;
  }();
  return all;
}

}  // namespace emulsion::nn::tiles
