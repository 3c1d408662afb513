#include "weights/arrange.h"

#include <algorithm>
#include <cstdint>

#include "nn/param_store.h"

namespace emulsion::weights {
namespace {

/// One kernel: [channels, points] to [points, channels]. Eight channels at a time are gathered in a register and written at
/// once. `points` is a number or, where the compiler can know it, a constant.
template <class Word, class Points>
void turn(const Word* from, Word* to, int64_t channels, Points points) {
  using Eight [[gnu::vector_size(8 * sizeof(Word)), gnu::aligned(sizeof(Word)), gnu::may_alias]] = Word;
  int64_t c = 0;
  for (; c + 8 <= channels; c += 8) {
    for (int64_t point = 0; point < points; ++point) {
      const Word* f = from + c * points + point;
      const Eight eight = {f[0],          f[points],     f[2 * points], f[3 * points],
                           f[4 * points], f[5 * points], f[6 * points], f[7 * points]};
      *reinterpret_cast<Eight*>(to + point * channels + c) = eight;
    }
  }
  for (; c < channels; ++c) {
    for (int64_t point = 0; point < points; ++point) to[point * channels + c] = from[c * points + point];
  }
}

template <class Word>
void turn_all(const Tensor& from, const Tensor& to) {
  const int64_t channels = from.size(1), points = from.size(2) * from.size(3), size = channels * points;
  const auto* source = static_cast<const Word*>(from.const_data_ptr());
  auto* target = static_cast<Word*>(to.mutable_data_ptr());
  for (int64_t kernel = 0; kernel < from.size(0); ++kernel, source += size, target += size) {
    if (points == 9) {
      turn(source, target, channels, std::integral_constant<int64_t, 9>());
    } else {
      turn(source, target, channels, points);
    }
  }
}

constexpr int64_t kPiece = 1 << 16;  // numbers that stay in the cache between two passes

/// ATen turns float16 into bfloat16 one number at a time, by way of float32 many at once.
Tensor cast(const Tensor& x, at::ScalarType dtype) {
  const bool slow = x.scalar_type() == at::kHalf && dtype == at::kBFloat16;
  return (slow ? x.to(at::kFloat) : x).to(dtype);
}

/// Fills `to` from `from`, both of one layout without gaps.
void copy_into(const Tensor& to, const Tensor& from) {
  const int64_t count = from.numel();
  const auto flat = [](const Tensor& x, int64_t begin, int64_t size) {
    return x.as_strided({size}, {1}, x.storage_offset() + begin);
  };
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const int64_t size = std::min(kPiece, count - begin);
    flat(to, begin, size).copy_(cast(flat(from, begin, size), to.scalar_type()));
  }
}

/// Fills `to`, channels_last, from `from`, row-major: some kernels at a time, which change their dtype on the way in a piece
/// of memory that stays in the cache. ATen's copy takes twice the time.
void turn_into(const Tensor& to, const Tensor& from) {
  const int64_t kernels = std::max<int64_t>(1, kPiece * from.size(0) / from.numel());
  for (int64_t begin = 0; begin < from.size(0); begin += kernels) {
    const int64_t count = std::min(kernels, from.size(0) - begin);
    const Tensor source = cast(from.narrow(0, begin, count), to.scalar_type());
    const Tensor target = to.narrow(0, begin, count);
    to.element_size() == 2 ? turn_all<uint16_t>(source, target) : turn_all<uint32_t>(source, target);
  }
}

}  // namespace

Tensor arranged(const Tensor& value, at::ScalarType dtype) {
  if (dtype == at::ScalarType::Undefined) dtype = value.scalar_type();
  const auto format = nn::layout_of(value);
  if (value.scalar_type() == dtype && value.is_contiguous(format)) return value;
  const Tensor result = at::empty(value.sizes(), value.options().dtype(dtype), format);
  const size_t width = at::elementSize(dtype);
  const bool turns = value.dim() == 4 && value.numel() > 0 && value.is_contiguous() && !value.is_contiguous(format);
  if (turns && (width == 2 || width == 4)) {
    turn_into(result, value);
  } else if (value.is_contiguous(format)) {
    copy_into(result, value);
  } else {
    result.copy_(value);
  }
  return result;
}

}  // namespace emulsion::weights
