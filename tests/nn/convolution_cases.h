// What the tests of the convolutions share: inputs of a 3 x 3 convolution, and the plain sum.
#pragma once

#include <fmt/format.h>

#include "nn/formula.h"

namespace emulsion::nn {

struct ConvolutionCase {
  int64_t batch, in, out, height, width;
  bool bias = true;
};

inline std::string name(const ConvolutionCase& c, const std::string& path) {
  return fmt::format("{}: {} x {} -> {}, {} x {}", path, c.batch, c.in, c.out, c.height, c.width);
}

inline Inputs convolution_inputs(const ConvolutionCase& c) {
  const auto last = at::MemoryFormat::ChannelsLast;
  Inputs in = {at::randn({c.batch, c.in, c.height, c.width}).contiguous(last), at::randn({c.out, c.in, 3, 3}).contiguous(last)};
  if (c.bias) in.push_back(at::randn({c.out}));
  return in;
}

inline Tensor bias_of(const Inputs& in) { return in.size() > 2 ? in[2] : Tensor(); }

inline Tensor plain_sum(const Inputs& in) {
  return at::conv2d(in[0], in[1], bias_of(in), at::IntArrayRef{1, 1}, at::IntArrayRef{1, 1});
}

}  // namespace emulsion::nn
