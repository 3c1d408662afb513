// What the forward and the backward pass of tiled attention share.
#pragma once

#include <algorithm>
#include <bit>

#include "nn/attention_passes.h"

namespace emulsion::nn::tiles {

constexpr int64_t kQueryBlock = 96;  // 16 register blocks of 6 rows (AVX2), 8 of 12 (AVX512)

/// Uninitialised memory from the tensor allocator, which keeps it for the next call.
c10::DataPtr allocate_scratch(size_t bytes);

template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : data_(allocate_scratch(static_cast<size_t>(count) * sizeof(T))) {}
  T* get() const { return static_cast<T*>(data_.get()); }
  T* operator+(int64_t offset) const { return get() + offset; }

 private:
  c10::DataPtr data_;
};

/// A matrix whose rows are `ld` apart.
template <class T>
struct Rows {
  T* data;
  int64_t ld;
  Rows from(int64_t row) const { return {data + row * ld, ld}; }
};

/// The rows of one head: x [B, L, D] at image `item / heads`, head `item % heads`.
template <class T>
Rows<T> head_of(const Tensor& x, int64_t item, int64_t heads) {
  const int64_t offset = item / heads * x.stride(0) + item % heads * (x.size(2) / heads);
  if constexpr (std::is_const_v<T>) {
    return {x.const_data_ptr<std::remove_const_t<T>>() + offset, x.stride(1)};
  } else {
    return {x.mutable_data_ptr<T>() + offset, x.stride(1)};
  }
}

/// bfloat16 <-> float32 as loops over bits, which the compiler makes vector code of: to nearest, ties to even, NaN stays NaN.
inline float widened(c10::BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.x) << 16); }
inline uint16_t narrowed(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

template <class From, class To>
void copy_row(const From* from, int64_t count, To* to) {
  if constexpr (std::is_same_v<From, To>) {
    std::copy_n(from, count, to);
  } else {
    for (int64_t c = 0; c < count; ++c) to[c] = widened(from[c]);
  }
}

/// to = factor * from, in the tensor's type.
template <class Real, class T>
void write_row(const Real* from, Real factor, int64_t count, T* to) {
  if constexpr (std::is_same_v<Real, T>) {
    for (int64_t c = 0; c < count; ++c) to[c] = from[c] * factor;
  } else {
    for (int64_t c = 0; c < count; ++c) to[c].x = narrowed(from[c] * factor);
  }
}

/// `count` rows as an operand: where they lie if that will do, else copied (and padded with zeros) into `room` [count, depth].
template <class T, class E>
Rows<const E> operand(const TileOps<E>& ops, Rows<const T> rows, int64_t count, int64_t width, E* room) {
  const int64_t depth = ops.up_to_depth(width);
  if constexpr (std::is_same_v<T, E>) {
    if (depth == width) return rows;
  }
  for (int64_t r = 0; r < count; ++r) {
    const T* from = rows.data + r * rows.ld;
    E* to = room + r * depth;
    copy_row(from, width, to);
    for (int64_t c = width; c < depth; ++c) to[c] = E(0);
  }
  return {room, depth};
}

/// logits [rows, columns] = scale * logits + added; `transposed`: rows are keys, else queries.
template <class Real>
void add_mask(const Tensor& added, int64_t item, int64_t heads, int64_t query, int64_t key, bool transposed, int64_t rows, int64_t columns,
              Real scale, Real* logits, int64_t ld) {
  const int64_t by_query = added.stride(2), by_key = added.stride(3);
  const Real* from = added.const_data_ptr<Real>() + item / heads * added.stride(0) + item % heads * added.stride(1) +
                     query * by_query + key * by_key;
  const int64_t row_step = transposed ? by_key : by_query, column_step = transposed ? by_query : by_key;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      logits[r * ld + c] = logits[r * ld + c] * scale + from[r * row_step + c * column_step];
    }
  }
}

}  // namespace emulsion::nn::tiles
