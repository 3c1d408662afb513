// Linear layers by our products, with and without a low-rank update, against their formula in float64, values and gradients, on
// every path of the machine.
#include "nn/linear.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "nn/attention_tiled.h"
#include "nn/attention_tiles.h"
#include "nn/formula.h"
#include "support/support.h"

namespace emulsion::nn {
namespace {

struct LinearCase {
  std::vector<int64_t> rows;
  int64_t in, out;
  bool bias;
  int64_t rank;
};
const LinearCase kLinearCases[] = {{{1}, 16, 16, true, 0},
                                   {{2, 77}, 48, 32, false, 3},
                                   {{3, 5, 7}, 32, 80, true, 16},
                                   {{97}, 336, 144, true, 17},  // more than a block in every direction
                                   {{2, 331}, 16, 16, false, 0},
                                   {{700}, 48, 208, true, 4},  // rows worth more than the weight
                                   {{1, 4}, 656, 272, true, 1},
                                   {{33}, 1312, 48, false, 16}};

std::string name(const LinearCase& c, const std::string& path) {
  return fmt::format("{}: [{}] x {} -> {}{}, rank {}", path, fmt::join(c.rows, ", "), c.in, c.out, c.bias ? ", bias" : "", c.rank);
}

/// x, the weight, down and up unless the rank is 0, the bias if there is one.
Inputs linear_inputs(const LinearCase& c) {
  auto sizes = c.rows;
  sizes.push_back(c.in);
  Inputs in = {at::randn(sizes), at::randn({c.out, c.in})};
  if (c.rank > 0) in.insert(in.end(), {at::randn({c.rank, c.in}), at::randn({c.out, c.rank})});
  if (c.bias) in.push_back(at::randn({c.out}));
  return in;
}

constexpr double kScale = 0.75;
LowRank update_of(const LinearCase& c, const Inputs& in) { return c.rank > 0 ? LowRank{in[2], in[3], kScale} : LowRank{}; }

Function formula_of(const LinearCase& c) {
  return [c](const Inputs& in) {
    const Tensor x = in[0].reshape({-1, c.in});
    Tensor y = (x.unsqueeze(1) * in[1]).sum(-1);
    if (c.rank > 0) y = y + kScale * ((x.unsqueeze(1) * in[2]).sum(-1).unsqueeze(1) * in[3]).sum(-1);
    if (c.bias) y = y + in.back();
    auto sizes = c.rows;
    sizes.push_back(c.out);
    return y.view(sizes);
  };
}

Function ours(const LinearCase& c, const std::string& path) {
  return [c, path](const Inputs& in) { return tiled_linear(in[0], in[1], c.bias ? in.back() : Tensor(), update_of(c, in), path); };
}

std::vector<std::string> linear_paths(at::ScalarType dtype) {
  if (dtype != at::kBFloat16) return tile_paths(dtype);
  std::vector<std::string> names;
  for (const auto& ops : tiles::available<c10::BFloat16>()) names.emplace_back(ops.name);
  return names;
}

double tolerance_of(at::ScalarType dtype) { return dtype == at::kBFloat16 ? 8e-3 : 1e-5; }

class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }

 private:
  int before_;
};

TEST(LinearTest, EveryPathIsTheFormulaForwardAndBackward) {
  at::manual_seed(1);
  for (const int count : {1, 2, 5}) {
    const Threads threads(count);
    for (const LinearCase& c : kLinearCases) {
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        for (const std::string& path : linear_paths(dtype)) {
          expect_same(ours(c, path), formula_of(c), linear_inputs(c), dtype, tolerance_of(dtype), name(c, path));
        }
      }
    }
  }
}

TEST(LinearTest, Float64GradientsAreFiniteDifferences) {
  at::manual_seed(2);
  for (const int64_t rank : {0, 2}) {
    const LinearCase c = {{2, 3}, 16, 16, true, rank};
    expect_finite_differences(ours(c, "portable"), linear_inputs(c), name(c, "portable"));
  }
}

/// Sums of small whole numbers are exact in float32, so that only the rounding of the result is left.
TEST(LinearTest, Bfloat16ResultsAreRoundedOnce) {
  at::manual_seed(5);
  const auto whole = [](at::IntArrayRef sizes) { return at::randint(-4, 5, sizes).to(at::kBFloat16); };
  for (const int64_t rows : {40, 600}) {
    for (const std::string& path : linear_paths(at::kBFloat16)) {
      const Tensor x = whole({rows, 64}).requires_grad_(true), w = whole({96, 64}), b = whole({96}), dy = whole({rows, 96});
      const Tensor y = tiled_linear(x, w, b, {}, path);
      y.backward(dy);
      const auto wide = [](const Tensor& t) { return t.detach().to(at::kDouble); };
      EXPECT_TRUE(at::equal(y.detach(), at::linear(wide(x), wide(w), wide(b)).to(at::kBFloat16))) << path << rows;
      EXPECT_TRUE(at::equal(x.grad(), at::mm(wide(dy), wide(w)).to(at::kBFloat16))) << path << rows;
    }
  }
}

/// The masters of an adapter stay float32, and so do their gradients.
TEST(LinearTest, UpdatesMayHaveAnotherType) {
  at::manual_seed(6);
  const LinearCase c = {{90}, 64, 48, true, 8};
  const Inputs in = cast(linear_inputs(c), at::kFloat);
  Inputs mixed = in;
  for (const size_t i : {0, 1, 4}) mixed[i] = in[i].detach().to(at::kBFloat16);
  for (const size_t i : {2, 3}) mixed[i] = in[i].detach().clone().requires_grad_(true);
  const Tensor cotangent = at::randn({90, 48});
  const Function f = ours(c, linear_paths(at::kBFloat16)[0]);
  f(mixed).backward(cotangent.to(at::kBFloat16));
  ours(c, linear_paths(at::kFloat)[0])(in).backward(cotangent);
  for (const size_t i : {2, 3}) {
    EXPECT_EQ(mixed[i].grad().scalar_type(), at::kFloat);
    EXPECT_TRUE(test::close(mixed[i].grad(), in[i].grad().to(at::kDouble), 1e-2)) << i;
  }
}

TEST(LinearTest, InputsMayLieInAnyOrder) {
  at::manual_seed(3);
  const Tensor x = at::randn({2, 16, 5, 7}), narrow = at::randn({9, 40}).narrow(1, 3, 16), w = at::randn({16, 32}).t();
  const Tensor weight = at::randn({32, 16}), expanded = at::randn({16}).expand({7, 16});
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const double tolerance = tolerance_of(dtype);
    for (const Tensor& like : {x.contiguous(at::MemoryFormat::ChannelsLast).permute({0, 2, 3, 1}), x.permute({0, 2, 3, 1}), narrow, expanded}) {
      for (const Tensor& matrix : {w, weight}) {
        const Tensor leaf = like.detach().to(dtype).requires_grad_(true), leaf_weight = matrix.detach().to(dtype).requires_grad_(true);
        const Tensor input = leaf.detach().to(at::kDouble), high = leaf_weight.detach().to(at::kDouble);
        const Tensor y = tiled_linear(leaf, leaf_weight, {}, {}, linear_paths(dtype)[0]);
        const Tensor expected = at::linear(input, high);
        EXPECT_TRUE(test::close(y.detach(), expected, tolerance));
        const Tensor cotangent = at::randn({32, expected.numel() / 32}).t().reshape_as(expected).to(dtype);
        y.backward(cotangent);
        EXPECT_TRUE(test::close(leaf.grad(), at::matmul(cotangent.to(at::kDouble), high), tolerance));
        const Tensor dw = at::mm(cotangent.to(at::kDouble).reshape({-1, 32}).t(), input.reshape({-1, 16}));
        EXPECT_TRUE(test::close(leaf_weight.grad(), dw, tolerance));
      }
    }
  }
}

TEST(LinearTest, NumberOfThreadsChangesNoBit) {
  at::manual_seed(4);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const LinearCase& c : kLinearCases) {
      const Inputs in = cast(linear_inputs(c), dtype);
      std::vector<Inputs> results;
      for (const int count : {1, 2, 3}) {
        const Threads threads(count);
        const Function f = ours(c, linear_paths(dtype)[0]);
        results.push_back(run(f, in, at::ones(f(in).sizes())));
        for (Tensor x : in) x.mutable_grad() = Tensor();
      }
      for (size_t i = 0; i < results[0].size(); ++i) {
        EXPECT_TRUE(at::equal(results[0][i], results[1][i]) && at::equal(results[0][i], results[2][i])) << name(c, "threads") << i;
      }
    }
  }
}

TEST(LinearTest, OnlyWantedGradientsAreMade) {
  const Tensor x = at::randn({8, 16}), w = at::randn({32, 16}), b = at::randn({32}).requires_grad_(true);
  const Tensor down = at::randn({2, 16}), up = at::randn({32, 2}).requires_grad_(true);
  tiled_linear(x, w, b, {down, up}, default_tile_path(at::kFloat)).sum().backward();
  EXPECT_FALSE(x.grad().defined() || w.grad().defined() || down.grad().defined());
  EXPECT_TRUE(at::equal(b.grad(), at::full({32}, 8.0f)));
  EXPECT_TRUE(test::close(up.grad(), at::mm(x, down.t()).sum(0).expand({32, 2}).to(at::kDouble), 1e-5));
}

TEST(LinearTest, NoRowsGiveNoRowsAndZeroGradients) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const auto leaf = [&](at::IntArrayRef sizes) { return at::randn(sizes).to(dtype).requires_grad_(true); };
    const Tensor x = leaf({0, 16}), w = leaf({32, 16}), down = leaf({2, 16});
    const Tensor y = tiled_linear(x, w, {}, {down, leaf({32, 2})}, linear_paths(dtype)[0]);
    EXPECT_EQ(y.sizes(), at::IntArrayRef({0, 32}));
    y.sum().backward();
    EXPECT_TRUE(at::equal(w.grad(), at::zeros({32, 16}, w.options())));
    EXPECT_TRUE(at::equal(down.grad(), at::zeros({2, 16}, w.options())));
  }
}

TEST(LinearTest, WhatDoesNotFitGoesThroughAten) {
  for (const auto& [rows, in, out] : std::vector<std::array<int64_t, 3>>{{3, 16, 16}, {8, 15, 16}, {8, 16, 4}, {0, 16, 16}}) {
    const Tensor x = at::randn({rows, in}), w = at::randn({out, in}), b = at::randn({out});
    EXPECT_FALSE(fits_tiled_linear(x, w));
    EXPECT_TRUE(at::equal(linear(x, w, b), at::linear(x, w, b)));
    const LowRank update = {at::randn({2, in}), at::randn({out, 2}), 3};
    const Tensor expected = at::linear(x, w + 3 * at::mm(update.up, update.down), b);
    EXPECT_TRUE(test::close(linear(x, w, b, update), expected.to(at::kDouble), 1e-5));
  }
  EXPECT_FALSE(fits_tiled_linear(at::randn({8, 16}).to(at::kBFloat16), at::randn({16, 16})));
  EXPECT_FALSE(fits_tiled_linear(at::randn({8, 16}).to(at::kHalf), at::randn({16, 16}).to(at::kHalf)));
}

TEST(LinearTest, RefusesWhatItCannotDo) {
  const Tensor x = at::randn({8, 16}).requires_grad_(true), w = at::randn({32, 16});
  const std::string path = default_tile_path(at::kFloat);
  EXPECT_THROW(tiled_linear(x, w, {}, {}, "nothing"), Error);
  EXPECT_THROW(tiled_linear(x, at::randn({32, 32}), {}, {}, path), Error);
  EXPECT_THROW(tiled_linear(x, at::randn({8, 16}), {}, {}, path), Error);
  EXPECT_THROW(tiled_linear(x, w, at::randn({16}), {}, path), Error);
  EXPECT_THROW(tiled_linear(x, w, {}, {at::randn({2, 16}), at::randn({32, 3})}, path), Error);
  EXPECT_THROW(tiled_linear(x, w, {}, {at::randn({2, 32}), at::randn({32, 2})}, path), Error);
}

}  // namespace
}  // namespace emulsion::nn
