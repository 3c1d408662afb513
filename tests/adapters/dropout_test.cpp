// LoRA's dropouts: their shares, what they scale, that samples keep theirs in any batch, and that nothing drops outside training.
#include <gtest/gtest.h>

#include "adapters/lora.h"
#include "nn/chance.h"
#include "nn/layers.h"
#include "support/support.h"

namespace emulsion::adapters {
namespace {

constexpr int64_t kRank = 8;

struct TinyLayer {
  nn::ParamStore store;
  nn::Leaf* leaf;
  std::unique_ptr<LoraAdapter> adapter;

  explicit TinyLayer(const AdapterConfig& config) {
    const nn::Scope scope(store);
    const nn::Linear layer(scope / "a", 4, 6, false);
    store.assign(store.at("a.weight"), at::zeros({6, 4}));
    leaf = store.find_leaf("a");
    adapter = new_lora(config, kRank, kRank, *leaf, "unet.a", Rng(1));
    adapter->up = Rng(2).normal({6, kRank}, Purpose::init);
    leaf->adapters.push_back(adapter.get());
  }
  Tensor operator()(const Tensor& x) const { return leaf->forward(x); }
};

std::vector<int64_t> draws(int64_t count, int64_t first = 0) {
  std::vector<int64_t> all;
  for (int64_t i = 0; i < count; ++i) all.push_back(first + i);
  return all;
}

class DropoutTest : public ::testing::Test {
 protected:
  void TearDown() override { off.emplace(); }
  std::optional<nn::WithoutChance> off;  // other tests begin without chance
  Tensor x = Rng(5).normal({4000, 3, 4}, Purpose::noise);
};

TEST_F(DropoutTest, OutsideOfTrainingNothingDrops) {
  const TinyLayer plain({}), dropping({.dropout = 0.5, .rank_dropout = 0.5, .module_dropout = 0.9});
  const nn::WithoutChance without;
  EXPECT_TRUE(at::equal(plain(x), dropping(x)));
}

TEST_F(DropoutTest, OnAverageItIsTheWholeAdapter) {
  const Tensor whole = TinyLayer({})(x);
  nn::set_chance({Rng(3), 0, draws(4000)});
  for (const AdapterConfig& config : {AdapterConfig{.dropout = 0.25}, AdapterConfig{.rank_dropout = 0.25}}) {
    const Tensor some = TinyLayer(config)(x);
    EXPECT_FALSE(test::close(some, whole, 0.1));
    // Over 4000 samples the mean's deviation is that of one over 63.
    EXPECT_LT((some - whole).mean(0).abs().max().item<double>(), 0.1);
  }
}

TEST_F(DropoutTest, SharesAndPlacesAreThoseOfTheirKind) {
  const nn::Chance chance = {Rng(3), 0, draws(4000)};
  const Tensor inner = at::ones({4000, 3, kRank});
  const Tensor numbers = nn::dropout_mask(inner, 0.3, 7, chance), ranks = nn::dropout_mask(inner, 0.3, 7, chance, 2);
  EXPECT_NEAR(numbers.eq(0).to(at::kFloat).mean().item<double>(), 0.3, 0.01);
  EXPECT_NEAR(numbers.max().item<double>(), 1 / 0.7, 1e-6);
  EXPECT_EQ(ranks.sizes(), (at::IntArrayRef{4000, 1, kRank}));
  EXPECT_NEAR(ranks.eq(0).to(at::kFloat).mean().item<double>(), 0.3, 0.01);
  EXPECT_FALSE(at::equal(nn::dropout_mask(inner, 0.3, 8, chance), numbers));  // another layer
}

TEST_F(DropoutTest, ASampleHasItsMaskInAnyBatch) {
  const TinyLayer layer({.dropout = 0.3, .rank_dropout = 0.2});
  nn::set_chance({Rng(3), 0, draws(10)});
  const Tensor all = layer(x.narrow(0, 0, 10));
  nn::set_chance({Rng(3), 0, draws(4, 5)});
  EXPECT_TRUE(at::equal(layer(x.narrow(0, 5, 4)), all.narrow(0, 5, 4)));
}

TEST_F(DropoutTest, AModuleIsLeftOutForWholePassesAtItsShare) {
  const TinyLayer layer({.module_dropout = 0.4});
  const Tensor some = x.narrow(0, 0, 2), whole = TinyLayer({})(some);
  int out = 0;
  for (uint64_t pass = 0; pass < 1000; ++pass) {
    nn::set_chance({Rng(3), pass, draws(2, static_cast<int64_t>(pass))});
    const Tensor y = layer(some);
    const bool is_out = y.abs().max().item<double>() == 0;
    out += is_out ? 1 : 0;
    EXPECT_TRUE(is_out || test::close(y, whole, 1e-6)) << pass;
  }
  EXPECT_NEAR(out, 400, 50);
}

TEST(DropoutConfigTest, KindsWithoutItAreRefused) {
  const std::string message = test::error_message([] { validate(AdapterConfig{.algo = Algorithm::loha, .dropout = 0.1}); });
  EXPECT_NE(message.find("dropout"), std::string::npos) << message;
}

}  // namespace
}  // namespace emulsion::adapters
