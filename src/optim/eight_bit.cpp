#include "optim/eight_bit.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace emulsion::optim {
namespace {

using kernels::EightBitTable;

/// The 256 numbers of the dynamic 8-bit type: 1 to 7 bits of fraction, the fewer the smaller the number.
Tensor numbers(bool with_sign) {
  std::vector<Tensor> parts = {at::zeros({1}), at::ones({1})};
  for (int64_t i = 0; i < 7; ++i) {
    const Tensor bounds = at::linspace(0.1, 1, (int64_t{1} << (i + (with_sign ? 0 : 1))) + 1);
    const Tensor middles = (bounds.slice(0, 0, -1) + bounds.slice(0, 1)) / 2 * std::pow(10.0, static_cast<double>(i - 6));
    parts.push_back(middles);
    if (with_sign) parts.push_back(-middles);
  }
  return std::get<0>(at::cat(parts).sort());
}

const Tensor& numbers_of(bool with_sign) {
  static const Tensor kSigned = numbers(true), kUnsigned = numbers(false);
  return with_sign ? kSigned : kUnsigned;
}

/// Where one number ends and the next begins: [255].
Tensor bounds_of(bool with_sign) {
  const Tensor& all = numbers_of(with_sign);
  return (all.slice(0, 0, -1) + all.slice(0, 1)) / 2;
}

Tensor cell_starts() {
  const Tensor bits = at::arange(EightBitTable::kCells, at::kInt).add_(EightBitTable::kFirstCell).bitwise_left_shift_(16);
  return bits.view(at::kFloat);
}

EightBitTable made_table(bool with_sign) {
  EightBitTable table;
  const Tensor bounds = bounds_of(with_sign), starts = cell_starts();
  std::memcpy(table.numbers.data(), numbers_of(with_sign).const_data_ptr<float>(), sizeof table.numbers);
  for (const bool negative : {false, true}) {
    const Tensor codes = at::bucketize(negative ? -starts : starts, bounds, /*out_int32=*/true);
    std::memcpy(table.nearest.data() + (negative ? EightBitTable::kCells : 0), codes.const_data_ptr<int32_t>(), codes.nbytes());
  }
  const float* const bound = bounds.const_data_ptr<float>();
  constexpr float kNever = std::numeric_limits<float>::infinity();
  for (int code = 0; code < 256; ++code) {
    table.limits[static_cast<size_t>(code)] = code < 255 ? bound[code] : kNever;
    // Half-way belongs to the lower number, which is the farther one here.
    table.limits[static_cast<size_t>(256 + code)] = code > 0 ? std::nextafter(-bound[code - 1], 0.0F) : kNever;
  }
  return table;
}

}  // namespace

Moment eight_bit_zeros(int64_t n, at::Device device) {
  const int64_t blocks = (n + kernels::kEightBitBlock - 1) / kernels::kEightBitBlock;
  return {at::zeros({blocks, kernels::kEightBitBlock}, at::TensorOptions(at::kByte).device(device)),
          at::zeros({blocks}, at::TensorOptions(at::kFloat).device(device))};
}

Tensor read_eight_bit(const Moment& moment, int64_t n, bool with_sign) {
  const Tensor all = numbers_of(with_sign).to(moment.values.device());
  return (all.index({moment.values.to(at::kLong)}) * moment.scales.unsqueeze(1)).flatten().slice(0, 0, n);
}

void write_eight_bit(const Moment& moment, const Tensor& values, bool with_sign) {
  const at::NoGradGuard no_grad;
  const Tensor blocks = at::constant_pad_nd(values, {0, moment.values.numel() - values.numel()}).view_as(moment.values);
  Tensor scales = moment.scales;
  scales.copy_(blocks.abs().amax(1));
  const Tensor relative = (blocks * scales.clamp_min(kernels::kLeastScale).reciprocal().unsqueeze(1)).clamp_(-1, 1);
  Tensor(moment.values).copy_(at::bucketize(relative, bounds_of(with_sign).to(values.device())));
}

const EightBitTable& eight_bit_table(bool with_sign) {
  static const EightBitTable kSigned = made_table(true), kUnsigned = made_table(false);
  return with_sign ? kSigned : kUnsigned;
}

}  // namespace emulsion::optim
