// Where an input meets a weight: declaration, values, and adapters around it.
#include "nn/leaf.h"

#include <gtest/gtest.h>

#include "nn/flops.h"
#include "nn/layers.h"
#include "nn/param_store.h"
#include "support/support.h"

namespace emulsion::nn {
namespace {

TEST(ParamStoreTest, AValueOfAnotherShapeIsRefusedByName) {
  ParamStore store;
  Param& param = (Scope(store) / "mid" / int64_t{0}).param("weight", {4, 3});
  const std::string message = test::error_message([&] { store.assign(param, at::zeros({3, 4})); });
  EXPECT_NE(message.find("[mid.0.weight] expected shape [4, 3], got [3, 4]"), std::string::npos) << message;
  EXPECT_FALSE(param.value.defined());
}

TEST(ParamStoreTest, APathIsDeclaredOnce) {
  ParamStore store;
  Scope(store).param("weight", {1});
  EXPECT_NE(test::error_message([&] { Scope(store).param("weight", {1}); }).find("declared twice"), std::string::npos);
  EXPECT_NE(test::error_message([&] { store.at("bias"); }).find("no tensor named 'bias'"), std::string::npos);
}

TEST(ParamStoreTest, ConvolutionWeightsBecomeChannelsLastAndStaySoWhenCast) {
  ParamStore store;
  Param& param = Scope(store).param("weight", {4, 8, 3, 3});
  const Tensor value = at::randn({4, 8, 3, 3});
  store.assign(param, value);
  EXPECT_TRUE(param.value.is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(at::equal(param.value, value));
  store.convert(at::kBFloat16);
  EXPECT_TRUE(param.value.is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(at::equal(param.value, value.to(at::kBFloat16)));
  EXPECT_EQ(store.numel(), 4 * 8 * 9);
}

/// Multiplies and adds around a leaf, and remembers the input that it was shown afterwards.
class Affine : public LeafAdapter {
 public:
  Affine(double factor, double addend) : factor_(factor), addend_(addend) {}
  Tensor map_input(const Tensor& x) const override { return x * factor_; }
  Tensor map_weight(const Tensor& w) const override { return w + addend_; }
  Tensor map_output(const Tensor& y, const Tensor& x) const override {
    seen = x;
    return y * factor_ + addend_;
  }
  NamedTensors params() const override { return {}; }
  mutable Tensor seen;

 private:
  double factor_, addend_;
};

TEST(LeafTest, InputsAreMappedFirstToLastAndOutputsLastToFirst) {
  ParamStore store;
  const Linear layer(Scope(store) / "to_q", 1, 1);
  store.assign(store.at("to_q.weight"), at::full({1, 1}, 1.0));
  store.assign(store.at("to_q.bias"), at::full({1}, 100.0));
  const Affine first(2, 1), second(3, 10);
  const Tensor x = at::full({1, 1}, 1.0);
  EXPECT_EQ(layer(x).item<double>(), 101);
  store.find_leaf("to_q")->adapters = {&first, &second};
  // input 1 * 2 * 3 = 6, weight 1 + 1 + 10 = 12, y = 6 * 12 + 100 = 172, then 172 * 3 + 10 = 526, then 526 * 2 + 1.
  EXPECT_EQ(layer(x).item<double>(), 1053);
  EXPECT_EQ(first.seen.item<double>(), 2);
  EXPECT_EQ(second.seen.item<double>(), 6);
  store.find_leaf("to_q")->adapters.clear();
  EXPECT_EQ(layer(x).item<double>(), 101);
}

/// Who holds the memory of x after the forward pass, x itself left out.
int64_t keepers(LeafKind kind, at::IntArrayRef input, at::IntArrayRef weight, bool trains) {
  const Tensor x = at::randn(input).contiguous(kind == LeafKind::conv2d ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  x.requires_grad_(true);
  const Leaf leaf{.path = "a", .kind = kind, .padding = 1};
  const Tensor y = leaf.apply(x, at::randn(weight).requires_grad_(trains), {});
  return static_cast<int64_t>(x.use_count() + x.storage().use_count()) - 3;  // held by x, by the node for its gradient, and its memory by x
}

TEST(LeafTest, AFrozenLayerKeepsNoInput) {
  EXPECT_EQ(keepers(LeafKind::linear, {2, 8, 32}, {64, 32}, false), 0);
  EXPECT_GT(keepers(LeafKind::linear, {2, 8, 32}, {64, 32}, true), 0);
  EXPECT_EQ(keepers(LeafKind::conv2d, {1, 16, 16, 16}, {32, 16, 3, 3}, false), 0);
  EXPECT_GT(keepers(LeafKind::conv2d, {1, 16, 16, 16}, {32, 16, 3, 3}, true), 0);
}

TEST(LeafTest, ArithmeticIsCountedWhileACounterLives) {
  ParamStore store;
  const Linear linear(Scope(store) / "a", 3, 5);
  const Conv2d conv(Scope(store) / "b", 2, 4, 3, 2, 1);
  for (Param& param : store.params()) store.assign(param, at::zeros(param.shape));
  FlopCounter counter;
  linear(at::zeros({7, 3}));
  EXPECT_EQ(counter.flops(), 2.0 * 7 * 3 * 5);
  conv(at::zeros({1, 2, 8, 8}));
  EXPECT_EQ(counter.flops(), 2.0 * 7 * 3 * 5 + 2.0 * 16 * 4 * 2 * 9);
}

}  // namespace
}  // namespace emulsion::nn
