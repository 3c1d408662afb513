// Tiled attention against its formula written with ATen's elementary operations in float64, on every path of this machine.
#include "nn/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "nn/attention_tiled.h"
#include "nn/formula.h"

namespace emulsion::nn {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Tensor attention_formula(const Inputs& in, int64_t heads, const AttentionMask& mask) {
  const int64_t batch = in[0].size(0), length = in[0].size(1), width = in[0].size(2) / heads;
  const auto split = [&](const Tensor& x) { return x.reshape({batch, x.size(1), heads, width}).permute({0, 2, 1, 3}); };
  Tensor logits = at::matmul(split(in[0]), split(in[1]).transpose(-1, -2)) / std::sqrt(static_cast<double>(width));
  if (mask.added.defined()) logits = logits + mask.added.to(at::kDouble).clamp_min(-1e30);
  if (mask.causal) {
    const Tensor later = at::ones({length, length}, at::kBool).triu(1);
    logits = logits.masked_fill(later, -1e30);
  }
  const Tensor exponent = (logits - logits.amax({-1}, true)).exp();
  const Tensor out = at::matmul(exponent / exponent.sum({-1}, true), split(in[2]));
  return out.permute({0, 2, 1, 3}).reshape(in[0].sizes());
}

struct AttentionCase {
  int64_t batch, queries, keys, heads, width;
  bool causal = false;
  std::vector<int64_t> mask = {};  // shape of an additive mask
};

// Sizes at and beside the edges of blocks: 96 queries; 256 keys forward, 128 backward; shares of the backward from 1024 keys.
const AttentionCase kAttentionCases[] = {
    {2, 5, 7, 2, 8},
    {1, 77, 77, 4, 16, true},
    {3, 64, 64, 1, 32},
    {2, 16, 77, 3, 40},
    {1, 9, 9, 3, 5, true},
    {2, 1, 2, 2, 4},
    {1, 33, 154, 2, 32},
    {2, 256, 77, 2, 32},
    {1, 97, 257, 2, 64},
    {1, 130, 300, 1, 80},
    {1, 95, 129, 2, 128},
    {1, 193, 1100, 1, 160},
    {1, 300, 300, 2, 33, true},
    {1, 40, 50, 1, 512},
    {2, 20, 31, 2, 8, false, {31}},
    {2, 70, 300, 3, 16, false, {2, 1, 70, 300}},
    {1, 140, 140, 2, 24, true, {1, 2, 140, 140}},
    {2, 3, 4, 1, 1},
};

std::string name(const AttentionCase& c, const std::string& path) {
  std::ostringstream text;
  text << path << ": " << c.batch << " x " << c.queries << " queries, " << c.keys << " keys, " << c.heads << " heads of "
       << c.width << (c.causal ? ", causal" : "") << (c.mask.empty() ? "" : ", masked");
  return text.str();
}

Inputs attention_inputs(const AttentionCase& c) {
  const int64_t d = c.heads * c.width;
  return {at::randn({c.batch, c.queries, d}), at::randn({c.batch, c.keys, d}), at::randn({c.batch, c.keys, d})};
}

/// A fifth of the keys hidden, never the first.
AttentionMask mask_of(const AttentionCase& c) {
  AttentionMask mask = {.causal = c.causal};
  if (c.mask.empty()) return mask;
  Tensor hidden = at::rand(c.mask) < 0.2;
  hidden.select(-1, 0).fill_(false);
  mask.added = at::randn(c.mask).masked_fill(hidden, -kInfinity);
  return mask;
}

void expect_formula(const AttentionCase& c, at::ScalarType dtype, double tolerance) {
  const AttentionMask mask = mask_of(c);
  const Inputs low = cast(attention_inputs(c), dtype);
  const Tensor cotangent = at::randn(low[0].sizes()).to(dtype);
  const Inputs expected = run([&](const Inputs& in) { return attention_formula(in, c.heads, mask); }, cast(low, at::kDouble), cotangent);
  for (const std::string& path : tile_paths(dtype)) {
    const Function ours = [&](const Inputs& in) { return tiled_attention(in[0], in[1], in[2], c.heads, mask, path); };
    const Inputs actual = run(ours, cast(low, dtype), cotangent);
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_TRUE(test::close(actual[i], expected[i], tolerance)) << name(c, path) << ", result " << i;
    }
  }
}

TEST(AttentionTest, Float32IsTheFormulaForwardAndBackward) {
  at::manual_seed(6);
  for (const AttentionCase& c : kAttentionCases) expect_formula(c, at::kFloat, 1e-5);
}

TEST(AttentionTest, Bfloat16IsTheFormulaWithinItsDigits) {
  at::manual_seed(6);
  for (const AttentionCase& c : kAttentionCases) expect_formula(c, at::kBFloat16, 2e-2);
}

TEST(AttentionTest, Float64IsTheFormulaToItsLastDigits) {
  at::manual_seed(6);
  for (const AttentionCase& c : kAttentionCases) expect_formula(c, at::kDouble, 1e-12);
}

TEST(AttentionTest, Float64GradientsAreFiniteDifferences) {
  at::manual_seed(7);
  for (const bool causal : {false, true}) {
    const AttentionMask mask = {.causal = causal, .added = causal ? Tensor() : at::randn({3, 3}, at::kDouble)};
    const Function ours = [&](const Inputs& in) { return attention(in[0], in[1], in[2], 2, mask); };
    expect_finite_differences(ours, {at::randn({2, 3, 4}), at::randn({2, 3, 4}), at::randn({2, 3, 4})},
                              causal ? "causal" : "masked");
  }
}

TEST(AttentionTest, ViewsGiveTheBitsOfTheirCopies) {
  at::manual_seed(8);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Tensor all = at::randn({2, 90, 3 * 80}).to(dtype);  // q, k and v of one product, side by side
    const Tensor cotangent = at::randn({2, 90, 80}).to(dtype);
    for (const bool turned : {false, true}) {
      const auto part = [&](int64_t i) {
        const Tensor x = all.narrow(2, 80 * i, 80);
        return turned ? x.transpose(0, 1).contiguous().transpose(0, 1) : x;
      };
      const auto results = [&](bool copied) {
        Inputs in;
        for (int64_t i = 0; i < 3; ++i) in.push_back((copied ? part(i).clone(at::MemoryFormat::Contiguous) : part(i)).detach());
        for (Tensor& x : in) x.requires_grad_(true);
        return run([](const Inputs& x) { return attention(x[0], x[1], x[2], 2); }, in, cotangent);
      };
      const Inputs views = results(false), copies = results(true);
      for (size_t i = 0; i < views.size(); ++i) EXPECT_TRUE(at::equal(views[i], copies[i])) << i << ", turned " << turned;
    }
  }
  const Tensor x = at::randn({2, 8, 5}).transpose(1, 2);  // rows whose elements are not neighbours
  EXPECT_TRUE(at::equal(attention(x, x, x, 2), attention(x.contiguous(), x.contiguous(), x.contiguous(), 2)));
}

TEST(AttentionTest, TheNumberOfThreadsChangesNoBit) {
  const int before = at::get_num_threads();
  at::manual_seed(9);
  for (const AttentionCase& c : {AttentionCase{1, 150, 1300, 1, 40}, {2, 77, 77, 3, 16, true}}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const Inputs in = attention_inputs(c);
      const Tensor cotangent = at::randn(in[0].sizes());
      const Function ours = [&](const Inputs& x) { return attention(x[0], x[1], x[2], c.heads, {.causal = c.causal}); };
      at::set_num_threads(1);
      const Inputs one = run(ours, cast(in, dtype), cotangent);
      for (const int threads : {2, 3, 5}) {
        at::set_num_threads(threads);
        const Inputs many = run(ours, cast(in, dtype), cotangent);
        for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], many[i])) << name(c, "default") << ", " << i;
      }
    }
  }
  at::set_num_threads(before);
}

// The largest logit is about 3e5: a sum of exponentials taken without its maximum, or a maximum added to the logarithm of the
// sum in float32, would show.
TEST(AttentionTest, ExtremeLogitsAreTheFormula) {
  at::manual_seed(10);
  const AttentionCase c = {1, 70, 400, 2, 16};
  Inputs in = attention_inputs(c);
  in[0] *= 300;
  in[1] *= 300;
  const Inputs low = cast(in, at::kFloat), high = cast(low, at::kDouble);
  const Tensor cotangent = at::randn(in[0].sizes());
  const Inputs expected = run([&](const Inputs& x) { return attention_formula(x, c.heads, {}); }, high, cotangent);
  for (const std::string& path : tile_paths(at::kFloat)) {
    const Inputs actual = run([&](const Inputs& x) { return tiled_attention(x[0], x[1], x[2], c.heads, {}, path); },
                              cast(low, at::kFloat), cotangent);
    // Logits of 3e5 carry an error of 0.02 in float32, which the weights show.
    for (size_t i = 0; i < actual.size(); ++i) EXPECT_TRUE(test::close(actual[i], expected[i], 5e-2)) << path << ", " << i;
  }
  // One key that outweighs all others by any measure: the output is its value, exactly.
  const Tensor q = at::full({1, 1, 8}, 1e4), v = at::randn({1, 300, 8});
  Tensor k = at::full({1, 300, 8}, -1e4);
  k.select(1, 123).fill_(1e4);
  EXPECT_TRUE(at::equal(attention(q, k, v, 1), v.narrow(1, 123, 1)));
}

TEST(AttentionTest, ASingleKeyGivesItsValue) {
  at::manual_seed(13);
  const AttentionCase c = {2, 3, 1, 2, 4};
  const Inputs in = cast(attention_inputs(c), at::kFloat);
  const Inputs all = run([](const Inputs& x) { return attention(x[0], x[1], x[2], 2); }, in, at::randn({2, 3, 8}));
  EXPECT_TRUE(at::equal(all[0], in[2].expand({2, 3, 8})));
  for (const size_t i : {1, 2}) EXPECT_LT(all[i].abs().max().item<float>(), 1e-6);  // its weight is 1 whatever q and k are
}

TEST(AttentionTest, WhatIsNotANumberShows) {
  at::manual_seed(11);
  for (const std::string& path : tile_paths(at::kFloat)) {
    const AttentionCase c = {1, 70, 300, 1, 8};
    Inputs in = cast(attention_inputs(c), at::kFloat);
    at::NoGradGuard no_grad;
    in[1].select(1, 299).fill_(kInfinity * 0);
    EXPECT_TRUE(tiled_attention(in[0], in[1], in[2], 1, {}, path).isnan().all().item<bool>()) << path;
  }
}

TEST(AttentionTest, AQueryThatSeesNothingGivesZerosAndGetsNoGradient) {
  at::manual_seed(12);
  const AttentionCase c = {1, 70, 140, 2, 16};
  Tensor added = at::zeros({70, 140});
  added.select(0, 3).fill_(-kInfinity);
  for (const std::string& path : tile_paths(at::kFloat)) {
    const Inputs in = cast(attention_inputs(c), at::kFloat);
    const Inputs all = run([&](const Inputs& x) { return tiled_attention(x[0], x[1], x[2], 2, {.added = added}, path); }, in,
                           at::ones({1, 70, 32}));
    EXPECT_EQ(all[0].select(1, 3).abs().max().item<float>(), 0);
    EXPECT_GT(all[0].select(1, 4).abs().max().item<float>(), 0);
    EXPECT_EQ(all[1].select(1, 3).abs().max().item<float>(), 0);
    for (const Tensor& x : all) EXPECT_TRUE(x.isfinite().all().item<bool>()) << path;
  }
}

TEST(AttentionTest, EmptyInputsGiveEmptyOrZeroResults) {
  for (const auto& [queries, keys, batch] : {std::tuple{0, 5, 2}, {3, 0, 2}, {3, 5, 0}, {0, 0, 0}}) {
    const Inputs in = cast({at::randn({batch, queries, 8}), at::randn({batch, keys, 8}), at::randn({batch, keys, 8})}, at::kFloat);
    const Inputs all = run([](const Inputs& x) { return attention(x[0], x[1], x[2], 2); }, in, at::ones(in[0].sizes()));
    EXPECT_EQ(all[0].sizes(), in[0].sizes());
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(all[i + 1].sizes(), in[i].sizes());
      EXPECT_EQ(all[i + 1].abs().sum().item<float>(), 0);
    }
  }
}

TEST(AttentionTest, ACausalPositionDoesNotSeeLaterOnes) {
  at::manual_seed(8);
  const Tensor q = at::randn({1, 6, 8}), k = at::randn({1, 6, 8}), v = at::randn({1, 6, 8});
  const Tensor before = attention(q, k, v, 2, {.causal = true});
  const Tensor changed = v.clone();
  changed.select(1, 4).fill_(100);
  const Tensor after = attention(q, k, changed, 2, {.causal = true});
  EXPECT_TRUE(at::equal(before.narrow(1, 0, 4), after.narrow(1, 0, 4)));
  EXPECT_FALSE(at::allclose(before.select(1, 4), after.select(1, 4)));
}

TEST(AttentionTest, RefusalsNameWhatIsWrong) {
  const Tensor x = at::randn({1, 4, 8});
  const auto message = [](const auto& f) { return test::error_message(f); };
  EXPECT_NE(message([&] { attention(x, x, x, 3); }).find("multiple of 3 heads"), std::string::npos);
  EXPECT_NE(message([&] { attention(x, at::randn({1, 4, 6}), x, 2); }).find("[1, 4, 6]"), std::string::npos);
  EXPECT_NE(message([&] { attention(x, x, x.to(at::kDouble), 2); }).find("Double"), std::string::npos);
  const Tensor learned = at::zeros({4, 4}).requires_grad_(true);
  EXPECT_NE(message([&] { attention(x, x, x, 2, {.added = learned}); }).find("detach"), std::string::npos);
  EXPECT_NE(message([&] { tiled_attention(x, x, x, 2, {}, "abacus"); }).find("abacus"), std::string::npos);
}

}  // namespace
}  // namespace emulsion::nn
