#include "nn/linear_loops.h"

#include <algorithm>

#include "core/clones.h"
#include "nn/attention_parts.h"
#if defined(__x86_64__)
#include <immintrin.h>
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 about its own intrinsics
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace emulsion::nn::products {
namespace {

using c10::BFloat16;
constexpr int64_t kSide = 16;  // of the blocks that are turned at a time

#if defined(__x86_64__)
#define EMULSION_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define EMULSION_AVX512_INLINE EMULSION_AVX512 static inline __attribute__((always_inline))

bool has_avx512_pairs() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512bf16");
  return has;
}

EMULSION_AVX512_INLINE __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1u << std::min(count, kSide)) - 1); }

EMULSION_AVX512_INLINE __m512 widen(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

EMULSION_AVX512_INLINE __m256i narrow(__m512 x) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)); }

/// 16 x 16 numbers turned: pairs of rows, then of pairs, then quarters of registers change places.
EMULSION_AVX512_INLINE void exchange(__m512* r) {
  __m512 t[16], u[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 16; ++i) {
    const __m512d first = _mm512_castps_pd(t[i / 4 * 4 + i % 4 / 2]), second = _mm512_castps_pd(t[i / 4 * 4 + i % 4 / 2 + 2]);
    u[i] = _mm512_castpd_ps(i % 2 == 0 ? _mm512_unpacklo_pd(first, second) : _mm512_unpackhi_pd(first, second));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 even = _mm512_shuffle_f32x4(u[j], u[4 + j], 0x88), odd = _mm512_shuffle_f32x4(u[j], u[4 + j], 0xdd);
    const __m512 even_below = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0x88);
    const __m512 odd_below = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0xdd);
    r[j] = _mm512_shuffle_f32x4(even, even_below, 0x88);
    r[4 + j] = _mm512_shuffle_f32x4(odd, odd_below, 0x88);
    r[8 + j] = _mm512_shuffle_f32x4(even, even_below, 0xdd);
    r[12 + j] = _mm512_shuffle_f32x4(odd, odd_below, 0xdd);
  }
}

EMULSION_AVX512 void narrow_rows_avx512(const float* sums, int64_t ld, int64_t rows, int64_t width, const BFloat16* bias,
                                        BFloat16* to, int64_t ld_to) {
  for (int64_t c = 0; c < width; c += kSide) {
    const __mmask16 used = first_lanes(width - c);
    const __m512 shift = bias == nullptr ? _mm512_setzero_ps() : widen(_mm256_maskz_loadu_epi16(used, bias + c));
    for (int64_t i = 0; i < rows; ++i) {
      const __m512 x = _mm512_add_ps(_mm512_maskz_loadu_ps(used, sums + i * ld + c), shift);
      _mm256_mask_storeu_epi16(to + i * ld_to + c, used, narrow(x));
    }
  }
}

EMULSION_AVX512 void narrow_turned_avx512(const float* sums, int64_t ld, int64_t rows, int64_t width, const BFloat16* bias,
                                          BFloat16* to, int64_t ld_to) {
  for (int64_t c = 0; c < width; c += kSide) {
    for (int64_t i = 0; i < rows; i += kSide) {
      __m512 r[kSide];
#pragma GCC unroll 16
      for (int64_t k = 0; k < kSide; ++k) r[k] = _mm512_loadu_ps(sums + (i + k) * ld + c);
      exchange(r);
      const __m512 shift = bias == nullptr ? _mm512_setzero_ps() : widen(_mm256_loadu_epi16(bias + i));
      BFloat16* const block = to + c * ld_to + i;
#pragma GCC unroll 16
      for (int64_t k = 0; k < kSide; ++k) {
        if (c + k < width) _mm256_storeu_epi16(block + k * ld_to, narrow(_mm512_add_ps(r[k], shift)));
      }
    }
  }
}

EMULSION_AVX512 void turn_avx512(const BFloat16* x, int64_t ld, int64_t rows, int64_t width, BFloat16* to, int64_t ld_to) {
  for (int64_t i = 0; i < ld_to; i += kSide) {
    const __mmask16 used = first_lanes(ld_to - i);
    for (int64_t c = 0; c < width; c += kSide) {
      __m512 r[kSide];
#pragma GCC unroll 16
      for (int64_t k = 0; k < kSide; ++k) {
        r[k] = i + k < rows ? widen(_mm256_loadu_epi16(x + (i + k) * ld + c)) : _mm512_setzero_ps();
      }
      exchange(r);
#pragma GCC unroll 16
      for (int64_t k = 0; k < kSide; ++k) _mm256_mask_storeu_epi16(to + (c + k) * ld_to + i, used, narrow(r[k]));
    }
  }
}
#else
bool has_avx512_pairs() { return false; }
#endif

}  // namespace

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

void narrow_rows(const float* sums, int64_t ld, int64_t rows, int64_t width, const BFloat16* bias, BFloat16* to, int64_t ld_to) {
#if defined(__x86_64__)
  if (has_avx512_pairs()) return narrow_rows_avx512(sums, ld, rows, width, bias, to, ld_to);
#endif
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < width; ++c) {
      to[i * ld_to + c].x = tiles::narrowed(sums[i * ld + c] + (bias == nullptr ? 0 : tiles::widened(bias[c])));
    }
  }
}

void narrow_turned(const float* sums, int64_t ld, int64_t rows, int64_t width, const BFloat16* bias, BFloat16* to, int64_t ld_to) {
#if defined(__x86_64__)
  if (has_avx512_pairs()) return narrow_turned_avx512(sums, ld, rows, width, bias, to, ld_to);
#endif
  for (int64_t i = 0; i < rows; ++i) {
    const float shift = bias == nullptr ? 0 : tiles::widened(bias[i]);
    for (int64_t c = 0; c < width; ++c) to[c * ld_to + i].x = tiles::narrowed(sums[i * ld + c] + shift);
  }
}

void turn(const BFloat16* x, int64_t ld, int64_t rows, int64_t width, BFloat16* to, int64_t ld_to) {
#if defined(__x86_64__)
  if (has_avx512_pairs()) return turn_avx512(x, ld, rows, width, to, ld_to);
#endif
  for (int64_t c = 0; c < width; ++c) {
    for (int64_t i = 0; i < ld_to; ++i) to[c * ld_to + i] = i < rows ? x[i * ld + c] : BFloat16(0);
  }
}

}  // namespace emulsion::nn::products
