// LoRA on single leaves: by-hand values, merging, attaching and detaching, what the config selects.
#include "adapters/lora.h"

#include <gtest/gtest.h>

#include <cmath>

#include "adapters/adapter_set.h"
#include "nn/layers.h"
#include "support/support.h"

namespace emulsion::adapters {
namespace {

/// A linear layer, a 1x1 and a 3x3 convolution with stride, and an embedding, all with random tensors.
struct Layers {
  Layers() {
    at::manual_seed(1);
    for (nn::Param& param : store.params()) store.assign(param, at::randn(param.shape));
  }
  std::vector<nn::Component> components() { return {{"unet", &store}}; }

  nn::ParamStore store;
  nn::Scope root{store};
  nn::Linear linear{root / "attn1" / "to_q", 6, 10};
  nn::Conv2d pointwise{root / "proj_in", 4, 6, 1};
  nn::Conv2d conv{root / "conv1", 4, 8, 3, 2, 1};
  nn::Embedding embedding{root / "embedding", 5, 6};
};

AdapterConfig config_for(std::vector<std::string> targets) {
  AdapterConfig config;
  config.rank = 3;
  config.alpha = 6;
  config.targets = std::move(targets);
  return config;
}

LoraAdapter& lora_of(const AdapterSet::Bound& bound) { return dynamic_cast<LoraAdapter&>(*bound.adapter); }

void randomise(AdapterSet& set) {
  for (const AdapterSet::Bound& bound : set.bound()) {
    for (const Adapter::Part& part : bound.adapter->parts()) *part.tensor = at::randn(part.tensor->sizes());
  }
}

TEST(LoraTest, AddsAlphaOverRankTimesUpTimesDown) {
  nn::ParamStore store;
  const nn::Linear layer(nn::Scope(store) / "a", 2, 2, false);
  store.assign(store.at("a.weight"), at::eye(2));
  AdapterSet set;
  nn::Leaf* leaf = store.find_leaf("a");
  const Tensor down = at::tensor({3.0f, 4.0f}).view({1, 2}), up = at::tensor({1.0f, -1.0f}).view({2, 1});
  set.add({"unet.a", leaf, std::make_unique<LoraAdapter>(*leaf, down, up, 0.5)});
  const ActiveAdapters active({{&set, 2.0}});
  // x = (1, 2): down gives 11; the scale is 2 * 0.5 / 1 = 1; y = (1, 2) + 11 (1, -1).
  EXPECT_TRUE(at::equal(layer(at::tensor({1.0f, 2.0f}).view({1, 2})), at::tensor({12.0f, -9.0f}).view({1, 2})));
}

TEST(LoraTest, AFreshAdapterChangesNothingAndItsUpMatrixIsZero) {
  for (const LoraInit init : {LoraInit::kaiming, LoraInit::gaussian}) {
    Layers layers;
    AdapterConfig config = config_for({"unet.attn1.to_q"});
    config.init = init;
    AdapterSet set = AdapterSet::create(config, layers.components(), Rng(1));
    ASSERT_EQ(set.bound().size(), 1u);
    EXPECT_EQ(lora_of(set.bound()[0]).up.abs().max().item<double>(), 0);
    EXPECT_GT(lora_of(set.bound()[0]).down.abs().max().item<double>(), 0);
    const Tensor x = at::randn({7, 6}), before = layers.linear(x);
    const ActiveAdapters active({{&set, 1.0}});
    EXPECT_TRUE(at::equal(layers.linear(x), before));
  }
}

TEST(LoraTest, BakedWeightsGiveTheAdaptersOutput) {
  Layers layers;
  AdapterSet set = AdapterSet::create(config_for({"*.to_q", "*.proj_in", "*.conv1"}), layers.components(), Rng(1));
  ASSERT_EQ(set.bound().size(), 3u);
  randomise(set);
  const Tensor row = at::randn({7, 6}), picture = at::randn({2, 4, 9, 7});
  const auto outputs = [&] {
    return std::vector<Tensor>{layers.linear(row), layers.pointwise(picture), layers.conv(picture)};
  };
  const auto base = outputs();
  std::vector<Tensor> adapted, baked_weights;
  {
    const ActiveAdapters active({{&set, 0.7}});
    adapted = outputs();
    for (const auto& bound : set.bound()) baked_weights.push_back(*bound.adapter->bake(bound.leaf->weight->value));
  }
  for (size_t i = 0; i < 3; ++i) {
    layers.store.assign(layers.store.at(set.bound()[i].leaf->weight->path), baked_weights[i]);
  }
  const auto merged = outputs();
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(test::close(adapted[i], merged[i], 1e-5)) << i;
    EXPECT_FALSE(test::close(adapted[i], base[i], 1e-1)) << i;
  }
}

TEST(LoraTest, DetachingRestoresTheBitsAndStrengthZeroIsTheBase) {
  Layers layers;
  AdapterSet set = AdapterSet::create(config_for({"*.to_q", "*.conv1"}), layers.components(), Rng(1));
  randomise(set);
  const Tensor row = at::randn({7, 6}), picture = at::randn({2, 4, 9, 7});
  const Tensor y = layers.linear(row), z = layers.conv(picture);
  {
    const ActiveAdapters active({{&set, 1.0}});
    EXPECT_FALSE(at::equal(layers.linear(row), y));
    EXPECT_FALSE(at::equal(layers.conv(picture), z));
  }
  EXPECT_TRUE(at::equal(layers.linear(row), y));
  EXPECT_TRUE(at::equal(layers.conv(picture), z));
  const ActiveAdapters active({{&set, 0.0}});
  EXPECT_TRUE(at::equal(layers.linear(row), y));
  EXPECT_TRUE(at::equal(layers.conv(picture), z));
}

TEST(LoraTest, SeveralSetsAddUp) {
  Layers layers;
  AdapterSet one = AdapterSet::create(config_for({"*.to_q"}), layers.components(), Rng(1));
  AdapterSet two = AdapterSet::create(config_for({"*.to_q"}), layers.components(), Rng(2));
  randomise(one);
  randomise(two);
  const Tensor x = at::randn({7, 6}), base = layers.linear(x);
  const auto with = [&](std::vector<ActiveAdapters::Entry> entries) {
    const ActiveAdapters active(std::move(entries));
    return layers.linear(x) - base;
  };
  const Tensor sum = with({{&one, 0.5}}) + with({{&two, -2}});
  EXPECT_TRUE(test::close(with({{&one, 0.5}, {&two, -2}}), sum, 1e-5));
}

TEST(LoraTest, LargeConvolutionsHaveTheirOwnRankAndAlpha) {
  Layers layers;
  AdapterConfig config = config_for({"*.to_q", "*.proj_in", "*.conv1"});
  config.conv_rank = 2;
  config.conv_alpha = 1;
  const AdapterSet set = AdapterSet::create(config, layers.components(), Rng(1));
  for (const auto& bound : set.bound()) {
    const bool large = bound.path == "unet.conv1";
    EXPECT_EQ(lora_of(bound).rank(), large ? 2 : 3) << bound.path;
    EXPECT_EQ(lora_of(bound).alpha, large ? 1 : 6) << bound.path;
  }
  EXPECT_EQ(set.numel(), 3 * (6 + 10) + 3 * (4 + 6) + 2 * (4 * 9 + 8));
}

TEST(LoraTest, AdaptersOfOneSeedAreTheSameWhateverElseIsSelected) {
  Layers layers;
  const AdapterSet all = AdapterSet::create(config_for({"*.to_q", "*.conv1"}), layers.components(), Rng(5));
  const AdapterSet one = AdapterSet::create(config_for({"*.conv1"}), layers.components(), Rng(5));
  ASSERT_EQ(all.bound()[1].path, one.bound()[0].path);
  EXPECT_TRUE(at::equal(lora_of(all.bound()[1]).down, lora_of(one.bound()[0]).down));
}

TEST(LoraTest, EmbeddingsAndPatternsWithoutLayersAreRefusedByName) {
  Layers layers;
  const auto create = [&](const char* target) {
    return test::error_message([&] { AdapterSet::create(config_for({target}), layers.components(), Rng(1)); });
  };
  EXPECT_NE(create("unet.embedding").find("\"!unet.embedding\""), std::string::npos) << create("unet.embedding");
  EXPECT_NE(create("unet.*.to_z").find("'unet.*.to_z' matches none of 4 layers"), std::string::npos);
}

TEST(LoraTest, MatricesOfAnotherModelAreAShapeErrorThatNamesTheLayer) {
  Layers layers;
  const nn::Leaf& leaf = *layers.store.find_leaf("conv1");
  const std::string message = test::error_message(
      [&] { LoraAdapter(leaf, at::zeros({3, 5, 3, 3}), at::zeros({8, 3, 1, 1}), 1); });
  EXPECT_NE(message.find("'conv1': expected down [3, 4, 3, 3] and up [8, 3, 1, 1], got [3, 5, 3, 3]"), std::string::npos)
      << message;
}

TEST(LoraTest, AdaptersThatStartAtTheWeightLeaveTheOutputAsItWas) {
  for (const LoraInit init : {LoraInit::pissa, LoraInit::olora}) {
    Layers layers;
    const Tensor row = at::randn({7, 6}), picture = at::randn({2, 4, 9, 7});
    const Tensor line = layers.linear(row), map = layers.conv(picture);
    const Tensor whole = layers.store.at("conv1.weight").value.clone();
    AdapterConfig config = config_for({"*.to_q", "*.conv1"});
    config.init = init;
    AdapterSet set = AdapterSet::create(config, layers.components(), Rng(1));
    EXPECT_FALSE(test::close(layers.conv(picture), map, 1e-2));
    {
      const ActiveAdapters active({{&set, 1.0}});
      EXPECT_TRUE(test::close(layers.linear(row), line, 1e-5));
      EXPECT_TRUE(test::close(layers.conv(picture), map, 1e-5));
    }
    // What is written fits the weight as it was.
    auto& moved = lora_of(set.bound()[1]);
    moved.down = moved.down + 0.1 * at::randn(moved.down.sizes());
    moved.up = moved.up + 0.1 * at::randn(moved.up.sizes());
    const Tensor trained = *moved.bake(layers.store.at("conv1.weight").value);
    const auto written = relative_to_whole_weight(moved, *set.bound()[1].leaf);
    EXPECT_EQ(written->rank(), 6);
    EXPECT_TRUE(test::close(*written->bake(whole), trained, 1e-5));
    config.rank = 7;
    const std::string message = test::error_message([&] { AdapterSet::create(config, layers.components(), Rng(1)); });
    EXPECT_NE(message.find("'attn1.to_q.weight' has rank 6 at most"), std::string::npos) << message;
  }
}

TEST(LoraTest, UpdatesWithALargeNormAreScaledDownAndOthersStay) {
  Layers layers;
  AdapterSet set = AdapterSet::create(config_for({"*.to_q", "*.conv1"}), layers.components(), Rng(1));
  randomise(set);
  auto &small = lora_of(set.bound()[0]), &large = lora_of(set.bound()[1]);
  small.up.mul_(1e-3);
  const auto norm = [](const LoraAdapter& lora) {  // as sd-scripts has it: of the whole update
    const Tensor update = at::matmul(lora.up.flatten(1).to(at::kDouble), lora.down.flatten(1).to(at::kDouble));
    return (lora.alpha / static_cast<double>(lora.rank()) * update).norm().item<double>();
  };
  const double before = norm(large), least = norm(small);
  EXPECT_NEAR(large.norm(), before, 1e-9 * before);
  ASSERT_GT(before, 2);
  ASSERT_LT(least, 1);
  const Tensor direction = large.down / large.down.norm(), untouched = small.up.clone();
  set.limit_norms(1);
  EXPECT_NEAR(norm(large), 1, 1e-6);
  EXPECT_TRUE(test::close(large.down / large.down.norm(), direction, 1e-6));
  EXPECT_TRUE(at::equal(small.up, untouched));
}

TEST(LoraTest, AdaptersOfAFileFollowTheRunsRulesButKeepTheirRanks) {
  Layers layers;
  AdapterSet set = AdapterSet::create(config_for({"*.to_q", "*.conv1"}), layers.components(), Rng(1));
  AdapterConfig config = config_for({"*"});
  config.rank = 5;
  config.dropout = 0.25;
  config.layers = {{.pattern = "unet.conv1", .lr = 0.5, .from = 3}};
  set.follow(config);
  EXPECT_EQ(set.bound()[0].rule.lr, 1);
  EXPECT_EQ(set.bound()[1].rule.lr, 0.5);
  EXPECT_EQ(set.bound()[1].rule.from, 3);
  EXPECT_EQ(lora_of(set.bound()[1]).rank(), 3);
  EXPECT_EQ(lora_of(set.bound()[1]).dropout.number, 0.25);
  config.layers[0].rank = 2;
  const std::string message = test::error_message([&] { set.follow(config); });
  EXPECT_NE(message.find("those of the adapter to go on from"), std::string::npos) << message;
}

}  // namespace
}  // namespace emulsion::adapters
