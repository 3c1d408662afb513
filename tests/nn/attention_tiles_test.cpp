// The products of tiles on every path of this machine, beside plain loops.
#include "nn/attention_tiles.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

namespace emulsion::nn::tiles {
namespace {

struct ProductCase {
  int64_t m, n, k;
};
// Every number of rows up to two register blocks of 12; columns around vectors of 4, 8, 16; squares and what is beside them.
std::vector<ProductCase> product_cases() {
  std::vector<ProductCase> cases = {{6, 16, 64}, {30, 48, 96}, {1, 1, 1}, {13, 33, 17}, {7, 64, 8}, {96, 40, 24}, {5, 15, 16}, {2, 31, 15}};
  for (int64_t m = 1; m <= 25; ++m) cases.push_back({m, 7 + m, 3 + m});
  return cases;
}

template <class E>
Tensor random(int64_t rows, int64_t columns) {
  return at::randn({rows, columns}, c10::CppTypeToScalarType<E>::value);
}

/// A [m, k] and B [k, n], which also lie transposed and with rows farther apart than they are long; C has a frame that must stay.
template <class E>
void expect_products(const TileOps<E>& ops, const ProductCase& c) {
  const std::string what = fmt::format("{} {} x {} x {}", ops.name, c.m, c.n, c.k);
  const Tensor a = random<E>(c.m, c.k + 3).narrow(1, 1, c.k), b = random<E>(c.k, c.n + 5).narrow(1, 2, c.n);
  const Tensor a_turned = at::empty({c.k, c.m + 3}, a.options()).narrow(1, 1, c.m).copy_(a.t());
  const Tensor b_turned = at::empty({c.n, c.k + 5}, b.options()).narrow(1, 2, c.k).copy_(b.t());
  const int64_t width = ops.up_to_lane(c.n);
  const Tensor begin = random<E>(c.m + 1, width + 2), right = at::mm(a.to(at::kDouble), b.to(at::kDouble));
  const Tensor packed = at::full({ops.packed_size(c.k, c.n)}, std::nan(""), a.options());
  for (const bool pack_turned : {false, true}) {
    const Tensor& source = pack_turned ? b_turned : b;
    (pack_turned ? ops.pack_transposed : ops.pack)(c.k, c.n, source.const_data_ptr<E>(), source.stride(0),
                                                   packed.mutable_data_ptr<E>());
    for (const bool turned : {false, true}) {
      for (const bool add : {false, true}) {
        Tensor result = begin.clone();
        const Tensor& left = turned ? a_turned : a;
        (turned ? ops.multiply_transposed : ops.multiply)(c.m, c.n, c.k, left.const_data_ptr<E>(), left.stride(0),
                                                          packed.const_data_ptr<E>(), result.mutable_data_ptr<E>(), width + 2, add);
        const Tensor expected = add ? right + begin.narrow(0, 0, c.m).narrow(1, 0, c.n) : right;
        const double worst = (result.narrow(0, 0, c.m).narrow(1, 0, c.n) - expected).abs().max().template item<double>();
        EXPECT_LT(worst, (sizeof(E) == 8 ? 1e-13 : 2e-6) * static_cast<double>(8 + c.k)) << what << turned << add << pack_turned;
        EXPECT_TRUE(at::equal(result.narrow(1, width, 2), begin.narrow(1, width, 2))) << what << ": columns beside the tile";
        EXPECT_TRUE(at::equal(result[c.m], begin[c.m])) << what << ": the row below the tile";
      }
    }
  }
}

TEST(TileProductTest, EveryPathIsThePlainProductFromEitherOrderOfItsOperands) {
  at::manual_seed(1);
  for (const ProductCase& c : product_cases()) {
    for (const auto& ops : available<float>()) expect_products(ops, c);
    for (const auto& ops : available<double>()) expect_products(ops, c);
  }
}

/// B [k, n], either order, in memory that was full of NaN.
template <class Pack>
Tensor packed_by(Pack pack, const TileOps<c10::BFloat16>& ops, const ProductCase& c, const Tensor& source) {
  const Tensor packed = at::full({ops.packed_size(c.k, c.n) + 32}, std::nan(""), at::kBFloat16);
  pack(c.k, c.n, source.const_data_ptr<c10::BFloat16>(), source.stride(0), packed.mutable_data_ptr<c10::BFloat16>());
  return packed.view(at::kShort);
}

TEST(TileProductTest, EveryPathLaysPairsAlike) {
  at::manual_seed(2);
  const auto& paths = available<c10::BFloat16>();
  std::vector<ProductCase> cases = product_cases();
  for (const ProductCase& c : {ProductCase{1, 64, 32}, {1, 130, 31}, {1, 79, 33}, {1, 80, 65}, {1, 256, 40}, {1, 17, 96}}) cases.push_back(c);
  for (const ProductCase& c : cases) {
    const Tensor b = random<c10::BFloat16>(c.k, c.n + 5).narrow(1, 2, c.n);
    const Tensor b_turned = at::empty({c.n, c.k + 5}, b.options()).narrow(1, 2, c.k).copy_(b.t());
    const Tensor expected = packed_by(paths.back().pack, paths.back(), c, b);
    for (const auto& ops : paths) {
      EXPECT_TRUE(at::equal(packed_by(ops.pack, ops, c, b), expected)) << ops.name << " " << c.k << " x " << c.n;
      EXPECT_TRUE(at::equal(packed_by(ops.pack_transposed, ops, c, b_turned), expected)) << ops.name << " " << c.k << " x " << c.n;
    }
  }
}

TEST(TileProductTest, ProductsOfPairsAreThePlainProduct) {
  at::manual_seed(3);
  for (const ProductCase& c : product_cases()) {
    for (const auto& ops : available<c10::BFloat16>()) {
      const int64_t depth = ops.up_to_depth(c.k), width = ops.up_to_lane(c.n);
      const Tensor a = random<c10::BFloat16>(c.m, depth + 3).narrow(1, 1, depth), b = random<c10::BFloat16>(c.k, c.n);
      a.narrow(1, c.k, depth - c.k).zero_();
      const Tensor packed = packed_by(ops.pack, ops, c, b), begin = at::randn({c.m + 1, width + 2});
      const Tensor expected = at::mm(a.narrow(1, 0, c.k).to(at::kDouble), b.to(at::kDouble));
      for (const bool add : {false, true}) {
        Tensor result = begin.clone();
        ops.multiply(c.m, c.n, c.k, a.const_data_ptr<c10::BFloat16>(), a.stride(0),
                     packed.view(at::kBFloat16).const_data_ptr<c10::BFloat16>(), result.mutable_data_ptr<float>(), width + 2, add);
        const Tensor change = (add ? result - begin : result).narrow(0, 0, c.m).narrow(1, 0, c.n) - expected;
        EXPECT_LT(change.abs().max().item<double>(), 2e-6 * static_cast<double>(8 + c.k)) << ops.name << c.m << c.n << c.k << add;
        EXPECT_TRUE(at::equal(result.narrow(1, width, 2), begin.narrow(1, width, 2))) << ops.name << ": columns beside the tile";
        EXPECT_TRUE(at::equal(result[c.m], begin[c.m])) << ops.name << ": the row below the tile";
      }
      if (ops.finish) ops.finish();
    }
  }
}

}  // namespace
}  // namespace emulsion::nn::tiles
