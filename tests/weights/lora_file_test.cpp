// LoRA files without their model, against the whole matrices and their singular values by LAPACK.
#include "weights/lora_file.h"

#include "core/error.h"
#include "io/safetensors.h"
#include "weights/tiny_model.h"

namespace emulsion::weights {
namespace {

using test::expect_contains;

LowRankUpdate random_update(uint64_t seed, int64_t out, std::vector<int64_t> down_shape, int64_t rank, double scale) {
  const Rng rng(seed);
  const int64_t in = c10::multiply_integers(down_shape.begin(), down_shape.end());
  return {rng.normal({out, rank}, Purpose::init, 1), rng.normal({rank, in}, Purpose::init, 2), scale, std::move(down_shape)};
}

Tensor whole(const LowRankUpdate& u) { return at::matmul(u.up.to(at::kDouble), u.down.to(at::kDouble)) * u.scale; }

TEST(LoraFileTest, SingularValuesAndNormAreThoseOfTheWholeMatrix) {
  const LowRankUpdate update = random_update(1, 24, {20}, 6, 0.5);
  const Tensor expected = std::get<1>(at::linalg_svd(whole(update), false)).narrow(0, 0, 6);
  EXPECT_TRUE(at::allclose(singular_values(update), expected, 1e-9, 1e-9));
  EXPECT_NEAR(norm(update), whole(update).norm().item<double>(), 1e-9 * norm(update));
}

TEST(LoraFileTest, ResizingGivesTheNearestMatrixOfThatRank) {
  const LowRankUpdate update = random_update(2, 24, {4, 3, 3}, 8, 0.25);
  const LowRankUpdate smaller = resized(update, {.rank = 3});
  EXPECT_EQ(smaller.rank(), 3);
  EXPECT_EQ(smaller.down_shape, update.down_shape);
  EXPECT_EQ(smaller.scale, update.scale);
  const auto [left, values, right] = at::linalg_svd(whole(update), false);
  const Tensor nearest = at::matmul(left.narrow(1, 0, 3) * values.narrow(0, 0, 3), right.narrow(0, 0, 3));
  EXPECT_LT((whole(smaller) - nearest).abs().max().item<double>(), 1e-5);  // the halves are float32
}

TEST(LoraFileTest, RulesKeepTheFewestValuesThatSatisfyThem) {
  const Tensor values = at::tensor({8.0, 4.0, 1.0, 0.5});
  EXPECT_EQ(kept(values, {.rank = 2}), 2);
  EXPECT_EQ(kept(values, {.rank = 9}), 4);
  EXPECT_EQ(kept(values, {.keep_norm = 0.99}), 2);   // sqrt(80 / 81.25) = 0.9923
  EXPECT_EQ(kept(values, {.keep_norm = 0.995}), 3);
  EXPECT_EQ(kept(values, {.keep_sum = 0.9}), 3);     // 12 / 13.5 = 0.889
  EXPECT_EQ(kept(values, {.ratio = 8}), 3);
  EXPECT_EQ(kept(values, {.rank = 1, .keep_sum = 0.9}), 1);
  expect_contains(test::error_message([&] { kept(values, {}); }), {"expected a rank"});
}

TEST(LoraFileTest, SumsAddUp) {
  const LowRankUpdate one = random_update(3, 10, {12}, 2, 0.5), two = random_update(4, 10, {12}, 3, 2);
  const LowRankUpdate both = sum({one, two}, {0.7, -1.5}, "layer");
  EXPECT_EQ(both.rank(), 5);
  EXPECT_LT((whole(both) - (0.7 * whole(one) - 1.5 * whole(two))).abs().max().item<double>(), 1e-5);
  const LowRankUpdate other = random_update(4, 10, {13}, 3, 2);
  expect_contains(test::error_message([&] { sum({one, other}, {1, 1}, "mid.layer"); }), {"mid.layer", "[10, 12]", "[10, 13]"});
}

TEST(LoraFileTest, FilesComeBackInTheirNaming) {
  const test::TempFolder temp;
  LoraFile lora;
  lora.layers.emplace("lora_unet_a", random_update(5, 6, {5}, 2, 0.5));
  lora.layers.emplace("lora_unet_b", random_update(6, 6, {2, 3, 3}, 4, 0.25));
  lora.metadata["ss_output_name"] = "x";
  lora.metadata["sshs_model_hash"] = "stale";
  for (const bool peft : {false, true}) {
    lora.peft = peft;
    write_lora(temp / "a.safetensors", lora, at::kFloat);
    const auto file = io::SafetensorsFile::open(temp / "a.safetensors");
    EXPECT_EQ(file.contains("lora_unet_b.lora_down.weight"), !peft);
    EXPECT_EQ(file.contains("lora_unet_b.lora_A.weight"), peft);
    EXPECT_EQ(file.metadata().at("ss_network_dim"), "4");
    EXPECT_EQ(file.metadata().at("ss_output_name"), "x");
    EXPECT_NE(file.metadata().at("sshs_model_hash"), "stale");
    const LoraFile again = read_lora(temp / "a.safetensors");
    EXPECT_EQ(again.peft, peft);
    for (const auto& [layer, update] : lora.layers) {
      EXPECT_LT((whole(again.layers.at(layer)) - whole(update)).abs().max().item<double>(), 1e-5) << layer;
      EXPECT_EQ(again.layers.at(layer).down_shape, update.down_shape);
    }
  }
}

TEST(LoraFileTest, WordsGoAlong) {
  const test::TempFolder folder;
  LoraFile one, two;
  one.layers.emplace("lora_unet_a", random_update(1, 6, {5}, 2, 1));
  two.layers = one.layers;
  one.words = {{"bundle_emb.zork.clip_l", at::full({2, 8}, 1.0f)}};
  two.words = {{"bundle_emb.zork.clip_l", at::full({2, 8}, 2.0f)}, {"bundle_emb.blip.clip_l", at::full({1, 8}, 3.0f)}};
  write_lora(folder / "sum.safetensors", sum({one, two}, {1, 1}), at::kFloat);
  const LoraFile back = read_lora(folder / "sum.safetensors");
  ASSERT_EQ(back.words.size(), 2u);
  EXPECT_TRUE(at::equal(back.words.at("bundle_emb.zork.clip_l"), at::full({2, 8}, 1.0f)));
  EXPECT_TRUE(at::equal(back.words.at("bundle_emb.blip.clip_l"), at::full({1, 8}, 3.0f)));
}

TEST(LoraFileTest, WhatIsNoPlainLoraIsNamed) {
  const test::TempFolder temp;
  io::write_safetensors(temp / "a.safetensors", {{"l.hada_w1_a", at::ones({2, 2})}});
  expect_contains(test::error_message([&] { read_lora(temp / "a.safetensors"); }),
                  {"a.safetensors", "l.hada_w1_a", "no plain LoRA"});
  io::write_safetensors(temp / "b.safetensors", {{"l.lora_down.weight", at::ones({2, 2})}});
  expect_contains(test::error_message([&] { read_lora(temp / "b.safetensors"); }), {"'l'", "only its down half"});
}

}  // namespace
}  // namespace emulsion::weights
