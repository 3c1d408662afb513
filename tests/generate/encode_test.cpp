// Between pictures and latents: tiles, and decoding again what is no picture.
#include "generate/encode.h"

#include "core/error.h"
#include "weights/tiny_model.h"

namespace emulsion::generate {
namespace {

struct Notes : Reporter {
  void note(const std::string& text) override { notes.push_back(text); }
  std::vector<std::string> notes;
};

TEST(TilesTest, APointwiseFunctionIsTheSameInTiles) {
  for (const auto& [height, width] : {std::pair{8, 8}, {9, 30}, {6, 5}, {24, 17}}) {
    const Tensor x = at::randn({2, 3, height, width});
    const auto up = [](const Tensor& t) { return at::upsample_nearest2d(t, {t.size(2) * 4, t.size(3) * 4}) * 2; };
    EXPECT_TRUE(test::close(in_tiles(x, 8, 4, 1, up), up(x), 1e-6)) << height << "x" << width;
    const Tensor large = up(x);
    const auto down = [](const Tensor& t) { return at::avg_pool2d(t, {4, 4}); };
    EXPECT_TRUE(test::close(in_tiles(large, 32, 1, 4, down), down(large), 1e-6)) << height << "x" << width;
  }
}

TEST(TilesTest, NeighboursFadeIntoEachOther) {
  // Each tile returns its number: the overlap of 2 of 8 runs from one to the next, starting with the earlier.
  int64_t calls = 0;
  const Tensor out = in_tiles(at::zeros({1, 1, 8, 14}), 8, 1, 1, [&](const Tensor& t) { return at::full_like(t, calls++); });
  ASSERT_EQ(calls, 6);  // steps of 6, also where little is left: 2 rows of 3
  const Tensor row = out[0][0][0];
  EXPECT_TRUE(test::close(row.narrow(0, 5, 4), at::tensor({0.0, 0.0, 0.5, 1.0}).to(at::kFloat), 1e-6));
}

class EncodeTest : public ::testing::Test {
 protected:
  EncodeTest() {
    models::ArchitectureConfig a = test::tiny_architecture();
    a.resolution = 16;
    model = test::tiny_model(1, a);
  }
  Tensor decoded(Tiling tiling) { return decode_latents(model, latents, tiling); }

  models::Model model;
  Tensor latents = Rng(5).normal({1, 4, 20, 24}, Purpose::sample);
};

TEST_F(EncodeTest, TilesAreUsedWhereAskedOrLarge) {
  EXPECT_TRUE(at::equal(decoded(Tiling::automatic), decoded(Tiling::off)));
  const Tensor tiled = decoded(Tiling::on), whole = decoded(Tiling::off);
  EXPECT_EQ(tiled.sizes(), whole.sizes());
  EXPECT_FALSE(at::equal(tiled, whole));  // norms and attention see a tile only
  const Tensor pixels = at::rand({1, 3, 40, 48}) * 2 - 1;
  EXPECT_EQ(encode_pixels(model, pixels, {}, Tiling::on).sizes(), encode_pixels(model, pixels, {}, Tiling::off).sizes());
  const models::VaeConfig sd;  // made for 512 x 512
  EXPECT_FALSE(uses_tiles(sd, Tiling::automatic, 192, 192));
  EXPECT_TRUE(uses_tiles(sd, Tiling::automatic, 193, 192));
  EXPECT_FALSE(uses_tiles(sd, Tiling::off, 512, 512));
  EXPECT_TRUE(uses_tiles(sd, Tiling::on, 64, 65));
  EXPECT_FALSE(uses_tiles(sd, Tiling::on, 64, 64));
}

TEST_F(EncodeTest, WhatIsNoPictureIsDecodedAgainInFloat32) {
  // bfloat16 numbers beside a large one lose what is smaller than its last digit: the picture becomes flat.
  const Tensor expected = decoded(Tiling::automatic);
  model.vae->store.convert(at::kHalf);
  auto& gain = model.vae->store.at("decoder.conv_in.weight");
  const Tensor half = gain.value;
  model.vae->store.assign(gain, half * 60000);  // overflows in float16
  Notes notes;
  const Tensor redone = decode_latents(model, latents, Tiling::automatic, &notes);
  ASSERT_EQ(notes.notes.size(), 1u);
  test::expect_contains(notes.notes[0], {"NaN", "Half", "float32"});
  model.vae->store.convert(at::kFloat);
  EXPECT_TRUE(at::equal(redone, decoded(Tiling::automatic)));
  EXPECT_EQ(expected.sizes(), redone.sizes());
}

TEST_F(EncodeTest, ASingleColourIsSaid) {
  model.vae->store.assign(model.vae->store.at("decoder.conv_out.weight"),
                          at::zeros_like(model.vae->store.at("decoder.conv_out.weight").value));
  Notes notes;
  decode_latents(model, latents, Tiling::automatic, &notes);
  ASSERT_EQ(notes.notes.size(), 1u);
  test::expect_contains(notes.notes[0], {"single colour"});
  model.vae->store.convert(at::kBFloat16);
  decode_latents(model, latents, Tiling::automatic, &notes);
  ASSERT_EQ(notes.notes.size(), 3u);
  test::expect_contains(notes.notes[1], {"single colour", "BFloat16", "again in float32"});
}

TEST_F(EncodeTest, LatentsAreChosenWithinThePosterior) {
  const Tensor pixels = at::rand({1, 3, 16, 16}) * 2 - 1;
  const Tensor mean = encode_pixels(model, pixels), zero = encode_pixels(model, pixels, at::zeros({2, 4, 8, 8}));
  EXPECT_EQ(mean.sizes(), (std::vector<int64_t>{1, 4, 8, 8}));
  EXPECT_TRUE(test::close(zero, mean.expand({2, -1, -1, -1}), 1e-6));
  EXPECT_FALSE(test::close(encode_pixels(model, pixels, at::ones({1, 4, 8, 8})), mean, 1e-3));
}

}  // namespace
}  // namespace emulsion::generate
