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

}  // namespace
}  // namespace emulsion::nn::tiles
