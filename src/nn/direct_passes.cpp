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
// Numbers: of a packed piece of weights, of a group of pieces, and of sums that stay in the second cache together with the pixels at
// hand.
constexpr int64_t kPacked = 1 << 18, kGroup = kPacked * 3 / 2, kSums = 1 << 17;

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
        room = kGroup / columns;
      }
      groups.back().push_back(piece);
      room -= piece.depth;
    }
  }
  return groups;
}

/// Rows [y, y + rows) of a picture.
struct Block {
  int64_t picture, y, rows;
};

/// How the result, [pixels, columns], is cut: into shares of `wide` columns and blocks of at most `rows` rows of a picture.
struct Cut {
  int64_t columns, wide, shares, height, rows, per_picture, blocks;
  int64_t pixels;  // of a block, with the borders between its rows

  Cut(const Padded& x, int64_t columns_in) : columns(columns_in), height(x.height) {
    constexpr int64_t kLeastPixels = 64;
    const int64_t panels = (columns + kPanel - 1) / kPanel, threads = at::in_parallel_region() ? 1 : at::get_num_threads();
    wide = kPanel * std::clamp<int64_t>(kSums / (kPanel * x.batch * x.height * x.pitch()), 1, (panels + threads - 1) / threads);
    shares = (columns + wide - 1) / wide;
    rows = std::clamp<int64_t>((kLeastPixels + x.pitch() - 1) / x.pitch(), 1, x.height);
    per_picture = (x.height + rows - 1) / rows;
    blocks = x.batch * per_picture;
    pixels = rows * x.pitch();
  }

  Block block(int64_t index) const {
    const int64_t y = index % per_picture * rows;
    return {index / per_picture, y, std::min(rows, height - y)};
  }
};

/// sums [panels, pixels, kPanel] of a block += the products of a group, whose weights of `count` columns are `packed`.
void add_group(const Ops& ops, const Padded& x, const Block& block, const std::vector<Piece>& group, int64_t count,
               const BFloat16* packed, float* sums, int64_t pixels) {
  for (const Piece& piece : group) {
    const BFloat16* const left = x.before(block.picture, block.y + piece.tap / 3) + piece.tap % 3 * x.channels + piece.first;
    const bool add = piece.tap > 0 || piece.first > 0;
    for (int64_t c = 0; c < count; c += kPanel) {
      const int64_t width = std::min(kPanel, count - c);
      ops.multiply(block.rows * x.pitch() - 2, width, piece.depth, left, x.channels, packed, sums + c * pixels, kPanel, add);
      packed += ops.packed_size(piece.depth, width);
    }
  }
}

/// The sums of a block, rounded; `to`: its first pixel's first column of the share.
void write_block(const Padded& x, const Block& block, const float* sums, int64_t pixels, int64_t count, const BFloat16* bias,
                 BFloat16* to, int64_t columns) {
  for (int64_t c = 0; c < count; c += kPanel) {
    for (int64_t r = 0; r < block.rows; ++r) {
      products::narrow_rows(sums + c * pixels + r * x.pitch() * kPanel, kPanel, x.width, std::min(kPanel, count - c),
                            bias == nullptr ? nullptr : bias + c, to + r * x.width * columns + c, columns);
    }
  }
}

/// y = the sum over taps of x, shifted, times B_tap [channels, columns]; pack(piece, column, count, to) packs a piece of B.
template <class Pack>
Tensor shifted_products(const Ops& ops, const Padded& x, int64_t columns, const Tensor& bias, const Pack& pack) {
  const Tensor y = at::empty({x.batch, columns, x.height, x.width}, at::kBFloat16, at::MemoryFormat::ChannelsLast);
  BFloat16* const result = y.mutable_data_ptr<BFloat16>();
  const BFloat16* const shift = bias.defined() ? bias.const_data_ptr<BFloat16>() : nullptr;
  const Cut cut(x, columns);
  const auto groups = groups_of(x.channels, cut.wide);
  const bool one_group = groups.size() == 1;  // then a block is done at once, and its sums need not be kept
  at::parallel_for(0, cut.shares * cut.blocks, 1, [&](int64_t begin, int64_t end) {
    const Scratch<BFloat16> packed(kGroup + 32 * cut.wide);
    for (int64_t share = begin / cut.blocks; share * cut.blocks < end; ++share) {
      const int64_t first = std::max(begin - share * cut.blocks, int64_t{0}), last = std::min(end - share * cut.blocks, cut.blocks);
      const int64_t column = share * cut.wide, count = std::min(cut.wide, columns - column);
      const Scratch<float> sums(cut.pixels * cut.wide * (one_group ? 1 : last - first));
      for (const auto& group : groups) {
        BFloat16* room = packed.get();
        for (const Piece& piece : group) {
          pack(piece, column, count, room);
          room += ops.packed_size(piece.depth, count);
        }
        for (int64_t index = first; index < last; ++index) {
          const Block block = cut.block(index);
          float* const of_block = sums + (one_group ? 0 : (index - first) * cut.pixels * cut.wide);
          add_group(ops, x, block, group, count, packed.get(), of_block, cut.pixels);
          if (&group != &groups.back()) continue;
          BFloat16* const to = result + (block.picture * x.height + block.y) * x.width * columns + column;
          write_block(x, block, of_block, cut.pixels, count, shift == nullptr ? nullptr : shift + column, to, columns);
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
  const auto pack = [&](const Piece& piece, int64_t column, int64_t count, BFloat16* to) {
    ops.pack_transposed(piece.depth, count, w + (column * kTaps + piece.tap) * in + piece.first, kTaps * in, to);
  };
  return shifted_products(ops, Padded(x), weight.size(0), bias, pack);
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
