#include "nn/direct_passes.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "nn/attention_parts.h"
#include "nn/linear_loops.h"

namespace emulsion::nn::direct {
namespace {

using c10::BFloat16;
using tiles::Scratch;

constexpr int64_t kTaps = 9, kPanel = 64;
// Numbers: of packed weights and of sums that stay in the second cache together with the pixels at hand.
constexpr int64_t kPacked = 1 << 18, kSums = 1 << 17;

/// Pictures with a border of one zero pixel: the pixels that a tap meets lie in one run, whatever the row.
struct Padded {
  int64_t batch, height, width, channels;
  Scratch<BFloat16> data{batch * (height + 2) * pitch() * channels};

  int64_t pitch() const { return width + 2; }

  /// The pixel up and left of pixel (y, 0).
  const BFloat16* before(int64_t picture, int64_t y) const { return data + (picture * (height + 2) + y) * pitch() * channels; }

  explicit Padded(const Tensor& x) : batch(x.size(0)), height(x.size(2)), width(x.size(3)), channels(x.size(1)) {
    const BFloat16* const from = x.const_data_ptr<BFloat16>();
    at::parallel_for(0, batch * (height + 2), 8, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t y = row % (height + 2) - 1, size = pitch() * channels;
        BFloat16* const to = data + row * size;
        if (y < 0 || y >= height) {
          std::fill_n(to, size, BFloat16(0));
          continue;
        }
        std::fill_n(to, channels, BFloat16(0));
        std::copy_n(from + (row / (height + 2) * height + y) * width * channels, width * channels, to + channels);
        std::fill_n(to + size - channels, channels, BFloat16(0));
      }
    });
  }
};

/// A piece of the sum over taps and input channels, which are called `depth` here.
struct Piece {
  int64_t tap, first, depth;
};

/// The sum's pieces in the order in which they are added, in groups that are packed together.
std::vector<std::vector<Piece>> groups_of(int64_t depth, int64_t columns) {
  const int64_t most = std::max<int64_t>(32, kPacked / columns / 32 * 32), pieces = (depth + most - 1) / most;
  const int64_t size = ((depth + pieces - 1) / pieces + 31) / 32 * 32;
  std::vector<std::vector<Piece>> groups;
  int64_t room = 0;
  for (int64_t tap = 0; tap < kTaps; ++tap) {
    for (int64_t first = 0; first < depth; first += size) {
      const Piece piece = {tap, first, std::min(size, depth - first)};
      if (piece.depth > room) {
        groups.emplace_back();
        room = kPacked * 3 / 2 / columns;
      }
      groups.back().push_back(piece);
      room -= piece.depth;
    }
  }
  return groups;
}

/// How the result, [pixels, columns], is cut: `panels` panels of columns and `rows` rows of a picture at a time.
struct Cut {
  int64_t panels, rows;

  Cut(const Padded& x, int64_t columns) {
    constexpr int64_t kLeastPixels = 64;
    rows = std::clamp<int64_t>((kLeastPixels + x.pitch() - 1) / x.pitch(), 1, x.height);
    if (x.width >= kLeastPixels) rows = 1;
    const int64_t all = (columns + kPanel - 1) / kPanel, threads = at::in_parallel_region() ? 1 : at::get_num_threads();
    const int64_t pixels = x.batch * x.height * x.pitch();
    panels = std::clamp<int64_t>(kSums / (kPanel * pixels), 1, (all + threads - 1) / threads);
  }
};

/// y = the sum over taps of x, shifted, times B_tap [channels, columns]; pack(piece, column, count, to) packs a piece of B.
template <class Pack>
Tensor shifted_products(const Ops& ops, const Padded& x, int64_t columns, const Tensor& bias, const Pack& pack) {
  const Tensor y = at::empty({x.batch, columns, x.height, x.width}, at::TensorOptions(at::kBFloat16), at::MemoryFormat::ChannelsLast);
  BFloat16* const to = y.mutable_data_ptr<BFloat16>();
  const BFloat16* const shift = bias.defined() ? bias.const_data_ptr<BFloat16>() : nullptr;
  const Cut cut(x, columns);
  const int64_t wide = cut.panels * kPanel, shares = (columns + wide - 1) / wide, per_picture = (x.height + cut.rows - 1) / cut.rows;
  const int64_t blocks = x.batch * per_picture, pixels = cut.rows * x.pitch(), sums_size = pixels * wide;
  const auto groups = groups_of(x.channels, wide);
  at::parallel_for(0, shares * blocks, 1, [&](int64_t begin, int64_t end) {
    const Scratch<BFloat16> packed(kPacked * 3 / 2 + 32 * wide);
    for (int64_t share = begin / blocks; share * blocks < end; ++share) {
      const int64_t first = std::max(begin - share * blocks, int64_t{0}), last = std::min(end - share * blocks, blocks);
      const int64_t column = share * wide, count = std::min(wide, columns - column);
      const Scratch<float> sums(sums_size * (groups.size() > 1 ? last - first : 1));
      for (const auto& group : groups) {
        BFloat16* room = packed.get();
        for (const Piece& piece : group) {
          pack(piece, column, count, room);
          room += ops.packed_size(piece.depth, count);
        }
        for (int64_t block = first; block < last; ++block) {
          const int64_t picture = block / per_picture, y0 = block % per_picture * cut.rows, rows = std::min(cut.rows, x.height - y0);
          float* const sum = sums + (groups.size() > 1 ? (block - first) * sums_size : 0);
          const BFloat16* from = packed.get();
          for (const Piece& piece : group) {
            const BFloat16* const left = x.before(picture, y0 + piece.tap / 3) + piece.tap % 3 * x.channels + piece.first;
            const bool add = piece.tap > 0 || piece.first > 0;
            for (int64_t c = 0; c < count; c += kPanel) {
              const int64_t width = std::min(kPanel, count - c);
              ops.multiply(rows * x.pitch() - 2, width, piece.depth, left, x.channels, from, sum + c * pixels, kPanel, add);
              from += ops.packed_size(piece.depth, width);
            }
          }
          if (&group != &groups.back()) continue;
          for (int64_t c = 0; c < count; c += kPanel) {
            for (int64_t r = 0; r < rows; ++r) {
              products::narrow_rows(sum + c * pixels + r * x.pitch() * kPanel, kPanel, x.width, std::min(kPanel, count - c),
                                    shift == nullptr ? nullptr : shift + column + c,
                                    to + ((picture * x.height + y0 + r) * x.width) * columns + column + c, columns);
            }
          }
        }
      }
    }
    ops.finish();
  });
  return y;
}

}  // namespace

Tensor convolve(const Ops& ops, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const int64_t in = weight.size(1);
  const BFloat16* const w = weight.const_data_ptr<BFloat16>();
  return shifted_products(ops, Padded(x), weight.size(0), bias, [&](const Piece& piece, int64_t column, int64_t count, BFloat16* to) {
    ops.pack_transposed(piece.depth, count, w + (column * kTaps + piece.tap) * in + piece.first, kTaps * in, to);
  });
}

Tensor input_gradient(const Ops& ops, const Tensor& gradient, const Tensor& weight) {
  const int64_t in = weight.size(1);
  const BFloat16* const w = weight.const_data_ptr<BFloat16>();
  // What a tap took from one side it gives back to the other.
  return shifted_products(ops, Padded(gradient), in, {}, [&](const Piece& piece, int64_t column, int64_t count, BFloat16* to) {
    const BFloat16* const from = w + (piece.first * kTaps + kTaps - 1 - piece.tap) * in + column;
    // Two rows at a time through all panels, so that each row is read in one run.
    const int64_t ld = kTaps * in;
    for (int64_t k = 0; k < piece.depth; k += 2) {
      for (int64_t c = 0; c < count; c += kPanel) {
        const int64_t width = std::min(kPanel, count - c);
        ops.pack(std::min<int64_t>(2, piece.depth - k), width, from + k * ld + c, ld,
                 to + ops.packed_size(piece.depth, kPanel) * (c / kPanel) + k * ops.up_to_lane(width));
      }
    }
  });
}

}  // namespace emulsion::nn::direct
