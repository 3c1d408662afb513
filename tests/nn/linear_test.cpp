// Linear layers by our products against their formula in float64, values and gradients, on every path of the machine.
#include "nn/linear.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "nn/attention_tiled.h"
#include "nn/formula.h"
#include "support/support.h"

namespace emulsion::nn {
namespace {

struct LinearCase {
  std::vector<int64_t> rows;
  int64_t in;
  std::vector<int64_t> out;
  bool bias;
};
const LinearCase kLinearCases[] = {{{1}, 16, {16}, true},
                                   {{2, 77}, 48, {32}, false},
                                   {{3, 5, 7}, 32, {16, 48, 16}, true},
                                   {{97}, 336, {144}, true},        // more than a block in every direction
                                   {{2, 331}, 16, {16, 16}, false},
                                   {{1, 4}, 656, {272}, true}};

std::string name(const LinearCase& c, const std::string& path) {
  return fmt::format("{}: [{}] x {} -> {}{}", path, fmt::join(c.rows, ", "), c.in, fmt::join(c.out, ", "), c.bias ? ", bias" : "");
}

/// x, the weights, the biases.
Inputs linear_inputs(const LinearCase& c) {
  auto sizes = c.rows;
  sizes.push_back(c.in);
  Inputs in = {at::randn(sizes)};
  for (const int64_t out : c.out) in.push_back(at::randn({out, c.in}));
  for (const int64_t out : c.out) {
    if (c.bias) in.push_back(at::randn({out}));
  }
  return in;
}

/// All results side by side, each weighted otherwise, so that a mix-up shows.
template <class One>
Function side_by_side(const LinearCase& c, const One& all) {
  return [c, all](const Inputs& in) {
    const auto weights = in.begin() + 1, biases = weights + static_cast<int64_t>(c.out.size());
    return at::cat(all(in[0], Inputs(weights, biases), Inputs(biases, in.end())), -1);
  };
}

Function formula_of(const LinearCase& c) {
  return side_by_side(c, [](const Tensor& x, const Inputs& weights, const Inputs& biases) {
    Inputs results;
    for (size_t i = 0; i < weights.size(); ++i) {
      const Tensor y = (x.unsqueeze(-2) * weights[i]).sum(-1);
      results.push_back(biases.empty() ? y : y + biases[i]);
    }
    return results;
  });
}

Function ours(const LinearCase& c, const std::string& path) {
  return side_by_side(c, [path](const Tensor& x, const Inputs& weights, const Inputs& biases) {
    return tiled_linears(x, weights, biases, path);
  });
}

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
      for (const std::string& path : tile_paths(at::kFloat)) {
        expect_same(ours(c, path), formula_of(c), linear_inputs(c), at::kFloat, 1e-5, name(c, path));
      }
    }
  }
}

TEST(LinearTest, Float64GradientsAreFiniteDifferences) {
  at::manual_seed(2);
  const LinearCase c = {{2, 3}, 16, {16, 32}, true};
  expect_finite_differences(ours(c, "portable"), linear_inputs(c), name(c, "portable"));
}

TEST(LinearTest, InputsMayLieInAnyOrder) {
  at::manual_seed(3);
  const Tensor x = at::randn({2, 16, 5, 7}), narrow = at::randn({9, 40}).narrow(1, 3, 16), w = at::randn({16, 32}).t();
  const Tensor weight = at::randn({32, 16}), expanded = at::randn({16}).expand({7, 16});
  for (const Tensor& input : {x.contiguous(at::MemoryFormat::ChannelsLast).permute({0, 2, 3, 1}), x.permute({0, 2, 3, 1}), narrow, expanded}) {
    for (const Tensor& matrix : {w, weight}) {
      const Tensor leaf = input.detach().requires_grad_(true), leaf_weight = matrix.detach().requires_grad_(true);
      const Tensor y = tiled_linears(leaf, {leaf_weight}, {}, default_tile_path(at::kFloat))[0];
      const Tensor expected = at::linear(input, matrix);
      EXPECT_TRUE(test::close(y.detach(), expected.to(at::kDouble), 1e-5));
      const Tensor cotangent = at::randn({expected.size(-1), expected.numel() / expected.size(-1)}).t().reshape_as(expected);
      y.backward(cotangent);
      EXPECT_TRUE(test::close(leaf.grad(), at::matmul(cotangent, matrix).to(at::kDouble), 1e-5));
      const Tensor dw = at::mm(cotangent.reshape({-1, 32}).t(), input.reshape({-1, 16}));
      EXPECT_TRUE(test::close(leaf_weight.grad(), dw.to(at::kDouble), 1e-5));
    }
  }
}

TEST(LinearTest, NumberOfThreadsChangesNoBit) {
  at::manual_seed(4);
  for (const LinearCase& c : kLinearCases) {
    const Inputs in = cast(linear_inputs(c), at::kFloat);
    std::vector<Inputs> results;
    for (const int count : {1, 2, 3}) {
      const Threads threads(count);
      const Function f = ours(c, default_tile_path(at::kFloat));
      results.push_back(run(f, in, at::ones(f(in).sizes())));
      for (Tensor x : in) x.mutable_grad() = Tensor();
    }
    for (size_t i = 0; i < results[0].size(); ++i) {
      EXPECT_TRUE(at::equal(results[0][i], results[1][i]) && at::equal(results[0][i], results[2][i])) << name(c, "threads") << i;
    }
  }
}

TEST(LinearTest, OnlyWantedGradientsAreMade) {
  const Tensor x = at::randn({8, 16}), w = at::randn({32, 16}), b = at::randn({32}).requires_grad_(true);
  const std::string path = default_tile_path(at::kFloat);
  tiled_linears(x, {w}, {b}, path)[0].sum().backward();
  EXPECT_FALSE(x.grad().defined() || w.grad().defined());
  EXPECT_TRUE(at::equal(b.grad(), at::full({32}, 8.0f)));
  const Tensor leaf = x.detach().requires_grad_(true);
  tiled_linears(leaf, {w, w}, {}, path)[1].sum().backward();  // nothing comes back from the first
  EXPECT_TRUE(test::close(leaf.grad(), w.sum(0).expand({8, 16}).to(at::kDouble), 1e-5));
}

TEST(LinearTest, NoRowsGiveNoRowsAndZeroGradients) {
  const Tensor x = at::zeros({0, 16}).requires_grad_(true), w = at::randn({32, 16}).requires_grad_(true);
  const Tensor y = tiled_linears(x, {w}, {}, default_tile_path(at::kFloat))[0];
  EXPECT_EQ(y.sizes(), at::IntArrayRef({0, 32}));
  y.sum().backward();
  EXPECT_TRUE(at::equal(w.grad(), at::zeros({32, 16})));
}

TEST(LinearTest, WhatDoesNotFitGoesThroughAten) {
  for (const auto& [rows, in, out] : std::vector<std::array<int64_t, 3>>{{3, 16, 16}, {8, 15, 16}, {8, 16, 4}, {0, 16, 16}}) {
    const Tensor x = at::randn({rows, in}), w = at::randn({out, in}), b = at::randn({out});
    EXPECT_FALSE(fits_tiled_linear(x, w));
    EXPECT_TRUE(at::equal(linear(x, w, b), at::linear(x, w, b)));
    EXPECT_TRUE(at::equal(linears(x, {w, w}, {})[1], at::linear(x, w)));
  }
  EXPECT_FALSE(fits_tiled_linear(at::randn({8, 16}).to(at::kBFloat16), at::randn({16, 16}).to(at::kBFloat16)));
}

TEST(LinearTest, RefusesWhatItCannotDo) {
  const Tensor x = at::randn({8, 16}).requires_grad_(true), w = at::randn({32, 16});
  const std::string path = default_tile_path(at::kFloat);
  EXPECT_THROW(tiled_linears(x, {w}, {}, "nothing"), Error);
  EXPECT_THROW(tiled_linears(x, {at::randn({32, 32})}, {}, path), Error);
  EXPECT_THROW(tiled_linears(x, {at::randn({8, 16})}, {}, path), Error);
  EXPECT_THROW(tiled_linears(x, {w, w}, {at::randn({32})}, path), Error);
  EXPECT_THROW(tiled_linears(x, {w}, {at::randn({16})}, path), Error);
}

}  // namespace
}  // namespace emulsion::nn
