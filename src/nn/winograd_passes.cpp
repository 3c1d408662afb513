#include "nn/winograd_passes.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>

#include "nn/linear_loops.h"
#include "nn/winograd_loops.h"

namespace emulsion::nn::winograd {
namespace {

constexpr int64_t kParts = 16;

/// Numbers from one part to the next, for parts of `count` numbers: never a multiple of 4 KiB, for then all 16 parts of a tile
/// would fall into one set of the first-level cache.
int64_t part_stride(int64_t count) { return (count + 15) / 16 * 16 + 16; }

/// The 2 x 2 tiles of a batch of pictures, channels last.
struct TileGrid {
  int64_t batch, height, width, channels;
  int64_t rows = (height + 1) / 2, columns = (width + 1) / 2;

  static TileGrid of(const Tensor& x) { return {x.size(0), x.size(2), x.size(3), x.size(1)}; }
  int64_t count() const { return batch * rows * columns; }

  /// The pixels of the square with side N whose upper left corner lies `border` before that of tile `index`; `outside` where
  /// there is none.
  template <int N, class T>
  std::array<T*, N * N> pixels(T* first, int64_t index, int64_t border, T* outside) const {
    const int64_t top = index / columns % rows * 2 - border, left = index % columns * 2 - border;
    T* const picture = first + index / (rows * columns) * height * width * channels;
    std::array<T*, N * N> result;
    for (int64_t i = 0; i < N * N; ++i) {
      const int64_t y = top + i / N, x = left + i % N;
      const bool inside = y >= 0 && y < height && x >= 0 && x < width;
      result[i] = inside ? picture + (y * width + x) * channels : outside;
    }
    return result;
  }
};

/// Tiles that a thread handles at once: their transformed pixels stay in its second-level cache.
int64_t block_size(const TileGrid& grid, int64_t in, int64_t out) {
  constexpr int64_t kCache = 1 << 18, kLeast = 48;
  const int64_t fitting = std::max(kLeast, kCache / (kParts * (in + out)));
  const int64_t share = (grid.count() + at::get_num_threads() - 1) / at::get_num_threads();
  return std::clamp<int64_t>((share + 11) / 12 * 12, 1, fitting);
}

Tensor floats(at::IntArrayRef sizes) { return at::empty(sizes, at::kFloat); }
Tensor zeros(int64_t count) { return at::zeros({count}, at::kFloat); }

/// Tiles [begin, end) of x, transformed: part p, tile t at v + p * stride + (t - begin) * channels.
void transform_tiles(const TileGrid& grid, const float* x, int64_t begin, int64_t end, const float* outside, float* v, int64_t stride) {
  for (int64_t t = begin; t < end; ++t, v += grid.channels) {
    transform_input(grid.pixels<4>(x, t, 1, outside).data(), grid.channels, v, stride);
  }
}

/// Of this thread, kept: the packed weights of a network's layers are large and of many sizes.
float* weight_scratch(int64_t count) {
  thread_local Tensor scratch;
  if (!scratch.defined() || scratch.numel() < count) {
    scratch = Tensor();  // first, so that both need not be there at once
    scratch = floats({count});
  }
  return scratch.mutable_data_ptr<float>();
}

/// Output channels [begin, end) of a weight [out, in, 3, 3], transformed: part p at u + p * stride, [end - begin, in].
void transform_weights(const Tensor& weight, int64_t begin, int64_t end, float* u, int64_t stride) {
  const int64_t in = weight.size(1);
  const float* const from = weight.const_data_ptr<float>();
  for (int64_t k = begin; k < end; ++k, u += in) transform_weight(from + k * 9 * in, in, u, stride);
}

/// Half a turn of g exchanges the first and last row of G g, and leaves the two others; the same for columns.
int64_t turned_part(int64_t p) {
  const auto turned = [](int64_t i) { return i == 0 || i == 3 ? 3 - i : i; };
  return 4 * turned(p / 4) + turned(p % 4);
}

}  // namespace

// Both transform a few output channels and pack them at once, while they are in the cache.

PackedWeight pack_forward(const Ops& ops, const Tensor& weight) {
  const int64_t out = weight.size(0), in = weight.size(1), part = part_stride(ops.packed_size(in, out));
  float* const panels = weight_scratch(kParts * part);
  at::parallel_for(0, (out + ops.panel - 1) / ops.panel, 1, [&](int64_t first, int64_t last) {
    const int64_t stride = part_stride(ops.panel * in);
    const Tensor parts = floats({kParts * stride});
    float* const u = parts.mutable_data_ptr<float>();
    for (int64_t panel = first; panel < last; ++panel) {
      const int64_t begin = panel * ops.panel, end = std::min(begin + ops.panel, out);
      transform_weights(weight, begin, end, u, stride);
      for (int64_t p = 0; p < kParts; ++p) ops.pack_transposed(in, end - begin, u + p * stride, in, panels + p * part + begin * in);
    }
  });
  return {panels, part, in, out, in};
}

PackedWeight pack_backward(const Ops& ops, const Tensor& weight) {
  const int64_t out = weight.size(0), in = weight.size(1), part = part_stride(ops.packed_size(out, in));
  // Whatever the number of threads: where a sum is cut decides its bits.
  const int64_t wide = ops.up_to_lane(in), depth = std::clamp<int64_t>(out / 4 / 16 * 16, 16, 128);
  float* const panels = weight_scratch(kParts * part);
  at::parallel_for(0, (out + depth - 1) / depth, 1, [&](int64_t first, int64_t last) {
    const int64_t stride = part_stride(depth * in);
    const Tensor parts = floats({kParts * stride});
    float* const u = parts.mutable_data_ptr<float>();
    for (int64_t block = first; block < last; ++block) {
      const int64_t begin = block * depth, end = std::min(begin + depth, out);
      transform_weights(weight, begin, end, u, stride);
      for (int64_t p = 0; p < kParts; ++p) {
        ops.pack(end - begin, in, u + turned_part(p) * stride, in, panels + p * part + begin * wide);
      }
    }
  });
  return {panels, part, out, in, depth};
}

Tensor convolve(const Ops& ops, const Tensor& x, const PackedWeight& weight, const Tensor& bias) {
  const TileGrid grid = TileGrid::of(x);
  const int64_t in = weight.in, out = weight.out, wide = ops.up_to_lane(out);
  const TileGrid result{grid.batch, grid.height, grid.width, out};
  const Tensor y = at::empty({grid.batch, out, grid.height, grid.width}, x.options().memory_format(at::MemoryFormat::ChannelsLast));
  const Tensor no_pixel = zeros(in), shift = bias.defined() ? bias.contiguous() : zeros(out);
  const float* const pixels = x.const_data_ptr<float>();
  float* const results = y.mutable_data_ptr<float>();
  const int64_t block = block_size(grid, in, out), v_stride = part_stride(block * in), product_stride = part_stride(block * wide);
  at::parallel_for(0, (grid.count() + block - 1) / block, 1, [&](int64_t first, int64_t last) {
    const Tensor scratch = floats({kParts * (v_stride + product_stride) + out});
    float* const v = scratch.mutable_data_ptr<float>();
    float* const products = v + kParts * v_stride;
    float* const unread = products + kParts * product_stride;
    for (int64_t b = first; b < last; ++b) {
      const int64_t begin = b * block, end = std::min(begin + block, grid.count());
      transform_tiles(grid, pixels, begin, end, no_pixel.const_data_ptr<float>(), v, v_stride);
      for (int64_t p = 0; p < kParts; ++p) {
        const float* const panels = weight.panels + p * weight.part;
        for (int64_t k = 0; k < in; k += weight.depth) {
          ops.multiply(end - begin, out, std::min(weight.depth, in - k), v + p * v_stride + k, in, panels + k * wide,
                       products + p * product_stride, wide, k > 0);
        }
      }
      for (int64_t t = begin; t < end; ++t) {
        transform_output(products + (t - begin) * wide, product_stride, out, shift.const_data_ptr<float>(),
                         result.pixels<2>(results, t, 0, unread).data());
      }
    }
    ops.finish();
  });
  return y;
}

namespace {

/// What the tiles [begin, end) of both pictures give to the weight's gradient: part p of v [tiles, in] and of dm [tiles, out].
struct TilePair {
  Tensor v, dm;  // [16, part_stride]
  int64_t in, out;

  TilePair(int64_t most_tiles, int64_t in, int64_t out)
      : v(floats({kParts, part_stride(most_tiles * in)})), dm(floats({kParts, part_stride(most_tiles * out)})), in(in), out(out) {}
  const float* v_part(int64_t p) const { return v.const_data_ptr<float>() + p * v.size(1); }
  const float* dm_part(int64_t p) const { return dm.const_data_ptr<float>() + p * dm.size(1); }
};

void transform_both(const TileGrid& from, const float* x, const TileGrid& to, const float* gradient, int64_t begin, int64_t end,
                    const TilePair& pair) {
  const Tensor nothing = zeros(std::max(pair.in, pair.out));
  const float* outside = nothing.const_data_ptr<float>();
  float *const v = pair.v.mutable_data_ptr<float>(), *const dm = pair.dm.mutable_data_ptr<float>();
  at::parallel_for(begin, end, 16, [&](int64_t first, int64_t last) {
    transform_tiles(from, x, first, last, outside, v + (first - begin) * pair.in, pair.v.size(1));
    for (int64_t t = first; t < last; ++t) {
      transform_output_gradient(to.pixels<2>(gradient, t, 0, outside).data(), pair.out, dm + (t - begin) * pair.out, pair.dm.size(1));
    }
  });
}

/// du [16, stride] of [out, wide] each (+)= dm^T v, part by part; with few parts per thread, the rows of du are shared out as well.
void add_products(const Ops& ops, const TilePair& pair, int64_t count, const Tensor& du, bool add) {
  const int64_t in = pair.in, out = pair.out, wide = ops.up_to_lane(in), depth = 256;
  const int64_t shares = std::max<int64_t>(1, at::get_num_threads() / kParts), rows = (out + shares - 1) / shares;
  float* const sums = du.mutable_data_ptr<float>();
  at::parallel_for(0, kParts * shares, 1, [&](int64_t first, int64_t last) {
    const Tensor packed = floats({ops.packed_size(std::min(depth, count), in)});
    float* const panels = packed.mutable_data_ptr<float>();
    for (int64_t i = first; i < last; ++i) {
      const int64_t p = i / shares, row = i % shares * rows, height = std::min(rows, out - row);
      for (int64_t t = 0; t < count; t += depth) {
        const int64_t k = std::min(depth, count - t);
        ops.pack(k, in, pair.v_part(p) + t * in, in, panels);
        ops.multiply_transposed(height, in, k, pair.dm_part(p) + t * out + row, out, panels, sums + p * du.size(1) + row * wide, wide,
                                add || t > 0);
      }
    }
    ops.finish();
  });
}

}  // namespace

WeightGradients weight_gradients(const Ops& ops, const Tensor& x, const Tensor& gradient) {
  const TileGrid from = TileGrid::of(x), to = TileGrid::of(gradient);
  const int64_t in = from.channels, out = to.channels, wide = ops.up_to_lane(in);
  // A part of the tiles at a time, so that large pictures need no more than 64 MiB of transformed pixels.
  const int64_t chunk = std::min(from.count(), std::max<int64_t>(256, (int64_t{16} << 20) / (kParts * (in + out))));
  const TilePair pair(chunk, in, out);
  const Tensor du = floats({kParts, part_stride(out * wide)}), dbias = floats({out});
  for (int64_t begin = 0; begin < from.count(); begin += chunk) {
    const int64_t end = std::min(begin + chunk, from.count());
    transform_both(from, x.const_data_ptr<float>(), to, gradient.const_data_ptr<float>(), begin, end, pair);
    add_products(ops, pair, end - begin, du, begin > 0);
    // Part (1, 1) of A dy A^T is the sum of a tile's four pixels.
    products::add_rows(pair.dm_part(5), out, end - begin, out, dbias.mutable_data_ptr<float>(), begin > 0);
  }
  const Tensor dweight = at::empty({out, in, 3, 3}, x.options().memory_format(at::MemoryFormat::ChannelsLast));
  const float* sums = du.const_data_ptr<float>();
  float* result = dweight.mutable_data_ptr<float>();
  at::parallel_for(0, out, 16, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) transform_weight_gradient(sums + k * wide, du.size(1), in, result + k * 9 * in);
  });
  return {dweight, dbias};
}

}  // namespace emulsion::nn::winograd
