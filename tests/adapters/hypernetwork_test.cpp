// Hypernetworks: what they compute, how their parts are counted, where they act, and that they let go of the model again.
#include "adapters/hypernetwork.h"

#include <gtest/gtest.h>

#include "nn/chance.h"
#include "nn/layers.h"
#include "support/support.h"

namespace emulsion::adapters {
namespace {

using test::expect_contains;

/// Two attentions of width 8, one of which looks at text of width 6.
struct TinyAttentions {
  nn::ParamStore store;
  std::vector<nn::Linear> layers;

  TinyAttentions() {
    const nn::Scope scope(store);
    for (const char* name : {"a.attn1.to_q", "a.attn1.to_k", "a.attn1.to_v"}) layers.emplace_back(scope / name, 8, 8, false);
    for (const char* name : {"a.attn2.to_k", "a.attn2.to_v"}) layers.emplace_back(scope / name, 6, 8, false);
    uint64_t seed = 0;
    for (nn::Param& param : store.params()) store.assign(param, Rng(++seed).normal(param.shape, Purpose::init));
  }
};

std::vector<std::string> names_of(std::vector<std::pair<std::string, Tensor*>> parts) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : parts) names.push_back(name);
  return names;
}

TEST(HypernetworkTest, KeysAndValuesSeeTheirInputPlusTheNetworks) {
  TinyAttentions model;
  const HypernetworkConfig config{.structure = {1, 2, 1}, .activation = Activation::tanh, .init = HypernetworkInit::xavier_normal};
  Hypernetwork network = Hypernetwork::create(config, model.store, Rng(1));
  ASSERT_EQ(network.pairs.size(), 2u);
  const auto expected = [&](const nn::Linear& layer, const Mlp& mlp, const Tensor& x, double strength) {
    const Tensor inner = at::tanh(at::linear(x, mlp.layers[0].weight, mlp.layers[0].bias));
    return layer(x + strength * at::linear(inner, mlp.layers[1].weight, mlp.layers[1].bias));
  };
  const Tensor image = Rng(5).normal({2, 3, 8}, Purpose::noise), text = Rng(6).normal({2, 4, 6}, Purpose::noise);
  const std::vector<Tensor> inputs = {image, image, image, text, text};
  std::vector<Tensor> plain, wanted;
  for (size_t i = 0; i < inputs.size(); ++i) plain.push_back(model.layers[i](inputs[i]));
  wanted = {plain[0], expected(model.layers[1], network.pairs[8][0], image, 0.7),
            expected(model.layers[2], network.pairs[8][1], image, 0.7), expected(model.layers[3], network.pairs[6][0], text, 0.7),
            expected(model.layers[4], network.pairs[6][1], text, 0.7)};
  {
    const ActiveHypernetworks active(model.store, {{&network, 0.7}});
    for (size_t i = 0; i < inputs.size(); ++i) EXPECT_TRUE(test::close(model.layers[i](inputs[i]), wanted[i], 1e-6)) << i;
    EXPECT_FALSE(test::close(model.layers[1](image), plain[1], 1e-3));
  }
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_TRUE(at::equal(model.layers[i](inputs[i]), plain[i])) << i;
}

// torch.nn.Sequential counts activations and norms: linear, activation, norm, linear, ...
TEST(HypernetworkTest, PartsAreCountedAsPytorchCountsThem) {
  TinyAttentions model;
  const auto names = [&](HypernetworkConfig config) {
    config.widths = {6};
    auto network = Hypernetwork::create(config, model.store, Rng(1));
    std::vector<std::string> first;
    for (const std::string& name : names_of(network.pairs.at(6)[0].parts())) {
      if (name.ends_with(".weight")) first.push_back(name.substr(7, name.size() - 14));
    }
    return first;
  };
  using Numbers = std::vector<std::string>;
  EXPECT_EQ(names({}), (Numbers{"0", "1"}));
  EXPECT_EQ(names({.activation = Activation::relu}), (Numbers{"0", "2"}));
  EXPECT_EQ(names({.structure = {1, 2, 2, 1}, .activation = Activation::relu}), (Numbers{"0", "2", "4"}));
  EXPECT_EQ(names({.activation = Activation::relu, .layer_norm = true}), (Numbers{"0", "2", "3", "4"}));
  EXPECT_EQ(names({.layer_norm = true}), (Numbers{"0", "1", "2", "3"}));
  // Linear, ReLU, norm, dropout, linear, norm.
  EXPECT_EQ(names({.activation = Activation::relu, .layer_norm = true, .dropout = {0, 0.3, 0}}), (Numbers{"0", "2", "4", "5"}));
  EXPECT_EQ(names({.activation = Activation::relu, .activate_output = true, .layer_norm = true}), (Numbers{"0", "2", "3", "5"}));
}

TEST(HypernetworkTest, DropoutActsWhileTrainingInEachPlaceForItself) {
  TinyAttentions model;
  const HypernetworkConfig config{.init = HypernetworkInit::xavier_normal, .dropout = {0, 0, 0.25}, .widths = {8}};
  Hypernetwork network = Hypernetwork::create(config, model.store, Rng(1));
  const Mlp& mlp = network.pairs.at(8)[0];
  const Tensor x = Rng(5).normal({2, 500, 8}, Purpose::noise);
  const nn::WithoutChance end;
  const Tensor whole = mlp(x, 7);
  nn::set_chance({Rng(3), 0, {0, 1}});
  const Tensor dropped = mlp(x, 7), elsewhere = mlp(x, 8), again = mlp(x, 7);
  {
    const nn::WithoutChance without_chance;
    EXPECT_TRUE(at::equal(mlp(x, 7), whole));
  }
  EXPECT_TRUE(at::equal(again, dropped));
  const Tensor stays = dropped.ne(0);
  EXPECT_NEAR(stays.to(at::kDouble).mean().item<double>(), 0.75, 0.02);
  EXPECT_TRUE(test::close(dropped.masked_select(stays), (whole / 0.75).masked_select(stays), 1e-6));
  EXPECT_FALSE(at::equal(elsewhere.ne(0), stays));
  for (const std::vector<double>& wrong : {std::vector<double>{0, 0.5}, {0.5, 0, 0}, {0, 1, 0}}) {
    const std::string message = test::error_message([&] { Hypernetwork::create({.dropout = wrong}, model.store, Rng(1)); });
    expect_contains(message, {"dropout", "3 probabilities below 1"});
  }
}

TEST(HypernetworkTest, FirstWeightsHaveTheSpreadOfTheirKind) {
  TinyAttentions model;
  const auto spread = [&](HypernetworkInit init, Activation activation = Activation::relu) {
    const HypernetworkConfig config{.structure = {1, 200, 1}, .activation = activation, .init = init, .widths = {8}};
    return Hypernetwork::create(config, model.store, Rng(1)).pairs.at(8)[0].layers[0].weight.std().item<double>();
  };
  EXPECT_NEAR(spread(HypernetworkInit::normal), 0.01, 2e-4);
  const double xavier = std::sqrt(2.0 / (8 + 1600)), kaiming = std::sqrt(2.0 / 8);
  EXPECT_NEAR(spread(HypernetworkInit::xavier_normal) / xavier, 1, 0.02);
  EXPECT_NEAR(spread(HypernetworkInit::xavier_uniform) / xavier, 1, 0.02);
  EXPECT_NEAR(spread(HypernetworkInit::kaiming_normal) / kaiming, 1, 0.02);
  EXPECT_NEAR(spread(HypernetworkInit::kaiming_uniform) / kaiming, 1, 0.02);
}

TEST(HypernetworkTest, WhatCannotBeIsRefused) {
  TinyAttentions model;
  const auto message = [&](const HypernetworkConfig& config) {
    return test::error_message([&] { Hypernetwork::create(config, model.store, Rng(1)); });
  };
  expect_contains(message({.structure = {1, 2}}), {"structure", "[1, 2]"});
  expect_contains(message({.structure = {1, -1, 1}}), {"structure", "positive"});
  expect_contains(message({.widths = {7}}), {"7 wide", "6, 8"});
  Hypernetwork other = Hypernetwork::create({}, model.store, Rng(1));
  other.pairs = {{320, other.pairs.at(8)}};
  expect_contains(test::error_message([&] { ActiveHypernetworks(model.store, {{&other, 1}}); }), {"320", "6, 8", "another model"});
}

}  // namespace
}  // namespace emulsion::adapters
