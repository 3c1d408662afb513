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

/// As pack_rows_in_pairs.
AVX512_TARGET void interleave_rows(int64_t k, int64_t n, const BFloat16* source, int64_t ld, BFloat16* packed) {
  for (int64_t column = 0; column < n; column += kPairPanel) {
    const int64_t width = pair_width(n, column);
    for (int64_t row = 0; row < k; row += 2, packed += 2 * width) {
      for (int64_t j = 0; j < width; j += kPairLane) {
        const BFloat16* from = source + row * ld + column + j;
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
                       avx512::softmax<BFloat16>, avx512::gradient<BFloat16>, release_brgemm});
    }
#endif
    found.push_back({"pairs", kPairPanel, kPairLane, 2, multiply_slowly, nullptr, pack_rows_in_pairs, pack_columns_in_pairs,
                     portable32::softmax<BFloat16>, portable32::gradient<BFloat16>, nothing});
    return found;
  }();
  return all;
}

}  // namespace emulsion::nn::tiles
