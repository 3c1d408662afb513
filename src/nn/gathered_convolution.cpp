#include "nn/gathered_convolution.h"

#include "nn/attention_tiled.h"
#include "nn/linear.h"

namespace emulsion::nn {
namespace {

/// Where Winograd's way is not worth its transformed weight (bench/convolution.cpp): vectors of 512 bits multiply faster than the
/// larger weight comes out of memory.
bool few(int64_t pixels, int64_t out) {
  constexpr int64_t kAlwaysFew = 127;
  return pixels <= kAlwaysFew || (pixels < out && default_tile_path(at::kFloat) == "avx512");
}

/// [out, in, 3, 3] in channels_last as [out, 9 in], without a copy.
Tensor as_matrix(const Tensor& weight) { return weight.permute({0, 2, 3, 1}).flatten(1); }

}  // namespace

bool fits_gathered_convolution(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding) {
  return stride == 1 && padding == 1 && x.is_cpu() && x.dim() == 4 && x.scalar_type() == at::kFloat && weight.size(2) == 3 &&
         weight.size(3) == 3 && few(x.size(0) * x.size(2) * x.size(3), weight.size(0)) &&
         weight.is_contiguous(at::MemoryFormat::ChannelsLast) &&
         fits_tiled_linear(x.unsqueeze(0).expand({9, -1, -1, -1, -1}), as_matrix(weight));  // nine neighbours
}

Tensor gathered_convolution(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const Tensor framed = at::constant_pad_nd(x.permute({0, 2, 3, 1}), {0, 0, 1, 1, 1, 1});
  std::vector<Tensor> neighbours;
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t column = 0; column < 3; ++column) {
      neighbours.push_back(framed.narrow(1, row, x.size(2)).narrow(2, column, x.size(3)));
    }
  }
  return linear(at::cat(neighbours, 3), as_matrix(weight), bias).permute({0, 3, 1, 2});
}

}  // namespace emulsion::nn
