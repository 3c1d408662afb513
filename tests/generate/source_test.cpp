// Drawing from a picture: sizes, strength, masks, and what comes back untouched.
#include "generate/source.h"

#include "core/error.h"
#include "generate/generate.h"
#include "weights/tiny_model.h"

namespace emulsion::generate {
namespace {

using test::expect_contains;

Tensor picture(int64_t height, int64_t width) { return (at::rand({height, width, 3}) * 255).to(at::kByte); }

class SourceTest : public ::testing::Test {
 protected:
  Request request(int64_t height = 16, int64_t width = 16) {
    at::manual_seed(3);
    Request request;
    request.prompts = {"a", "b"};
    request.steps = 6;
    request.cfg = 3;
    request.source.picture = picture(height, width);
    return request;
  }
  static Tensor mask(int64_t height = 16, int64_t width = 16) {  // the right half is drawn
    Tensor mask = at::zeros({height, width}, at::kByte);
    mask.narrow(1, width / 2, width - width / 2).fill_(255);
    return mask;
  }
  Tensor draw(const Request& asked) {
    const Request full = resolve(asked, model);
    return finish(model, full, sample_latents(model, full, silent), silent);
  }
  std::string refusal(const std::function<void(Request&)>& change) {
    Request asked = request();
    change(asked);
    return test::error_message([&] { resolve(asked, model); });
  }
  void make_inpainting() {
    models::UNetConfig config = model.unet->net.config();
    config.in_channels = 9;
    model.unet = models::new_unet(config, Rng(4));
    test::perturb(model.unet->store, Rng(4), 2000);
  }

  models::Model model = test::tiny_model();
  Reporter silent;
};

TEST_F(SourceTest, WhatDoesNotFitIsRefused) {
  expect_contains(refusal([](Request& r) { r.source.mask = mask(16, 20); }), {"mask", "expected 16x16", "got 20x16"});
  expect_contains(refusal([](Request& r) { r.source.strength = 1.5; }), {"strength", "up to 1", "1.5"});
  expect_contains(refusal([](Request& r) { r.source.strength = -0.1; }), {"strength", "-0.1"});
  expect_contains(refusal([](Request& r) { r.width = 32; }), {"32x16", "16x16", "32x32"});
  expect_contains(refusal([](Request& r) { r.source.mask = at::zeros({16, 16}, at::kByte); }), {"nothing to draw", "white"});
  expect_contains(refusal([](Request& r) { r.source = {.mask = mask()}; }), {"mask without a picture", "--init-image"});
  expect_contains(refusal([](Request& r) { r.source = {.strength = 0.5}; }), {"--init-image"});
}

TEST_F(SourceTest, SizeAndStrengthHaveDefaults) {
  Request full = resolve(request(18, 22), model);
  EXPECT_EQ(full.width, 22);
  EXPECT_EQ(full.height, 18);
  EXPECT_EQ(full.source.strength, 0.75);
  Request larger = request();
  larger.width = larger.height = 32;
  larger.source.mask = mask();
  full = resolve(larger, model);
  EXPECT_EQ(full.source.picture.sizes(), (std::vector<int64_t>{32, 32, 3}));
  EXPECT_EQ(full.source.mask.sizes(), (std::vector<int64_t>{32, 32}));
  make_inpainting();
  EXPECT_EQ(resolve(larger, model).source.strength, 1);
}

TEST_F(SourceTest, AWeakDrawingStaysNearThePicture) {
  Request asked = request();
  const Tensor source = at::stack({asked.source.picture, asked.source.picture}).to(at::kFloat);
  const auto away = [&](double strength) {
    asked.source.strength = strength;
    const Request full = resolve(asked, model);
    const Tensor own = picture_latents(model, full.source, {}, Tiling::off);
    return (sample_latents(model, full, silent) - own).norm().item<double>();
  };
  EXPECT_LT(3 * away(0.17), away(1.0));  // one step of six
}

TEST_F(SourceTest, KeptPixelsComeBackUntouched) {
  // Also for sizes that the autoencoder does not divide, and for both ways of inpainting.
  for (const bool inpainting : {false, true}) {
    if (inpainting) make_inpainting();
    for (const double strength : {0.5, 1.0}) {
      Request asked = request(17, 21);
      asked.source.mask = mask(17, 21);
      asked.source.mask[0][15] = 128;  // a mixture
      asked.source.strength = strength;
      const Tensor drawn = draw(asked);
      ASSERT_EQ(drawn.sizes(), (std::vector<int64_t>{2, 17, 21, 3}));
      for (int64_t i = 0; i < 2; ++i) {
        const Tensor kept = drawn[i].narrow(1, 0, 10), expected = asked.source.picture.narrow(1, 0, 10);
        EXPECT_TRUE(at::equal(kept, expected));
        EXPECT_FALSE(at::equal(drawn[i].narrow(1, 10, 11), asked.source.picture.narrow(1, 10, 11)));
      }
      EXPECT_FALSE(at::equal(drawn[0], drawn[1]));
    }
  }
}

TEST_F(SourceTest, KeptLatentsAreThePicturesInEverySolver) {
  for (const char* sampler : {"ddim", "euler", "euler_ancestral", "dpmpp_2m"}) {
    Request asked = request();
    asked.sampler = sampler;
    asked.source.mask = mask();
    asked.source.strength = 0.8;
    const Tensor latents = sample_latents(model, asked, silent);
    const Tensor own = picture_latents(model, asked.source, {}, Tiling::off);
    EXPECT_TRUE(test::close(latents.narrow(3, 0, 4), own.narrow(3, 0, 4).expand({2, -1, -1, -1}), 1e-5)) << sampler;
    EXPECT_FALSE(test::close(latents.narrow(3, 4, 4), own.narrow(3, 4, 4).expand({2, -1, -1, -1}), 1e-2)) << sampler;
  }
}

TEST_F(SourceTest, AtFullStrengthNothingOfTheMaskedPartRemains) {
  Request asked = request();
  asked.source.mask = mask();
  asked.source.strength = 1;
  make_inpainting();
  const Tensor first = sample_latents(model, asked, silent);
  asked.source.picture = asked.source.picture.clone();
  asked.source.picture.narrow(1, 8, 8).fill_(7);
  EXPECT_TRUE(at::equal(sample_latents(model, asked, silent), first));
  asked.source.picture.narrow(1, 0, 8).fill_(7);  // the kept part is read
  EXPECT_FALSE(test::close(sample_latents(model, asked, silent), first, 1e-4));
}

TEST_F(SourceTest, AnInpaintingModelDrawsWithoutAPictureToo) {
  make_inpainting();
  Request asked = request();
  asked.source = {};
  EXPECT_EQ(sample_latents(model, asked, silent).sizes(), (std::vector<int64_t>{2, 4, 8, 8}));
}

TEST_F(SourceTest, TheUpperLeftPixelOfALatentSaysWhetherItIsDrawn) {
  Tensor mask = at::zeros({8, 8}, at::kByte);
  mask[0][0] = 128;
  mask[2][5] = 255;  // no corner of a square of 4
  mask[4][4] = 127;
  const Tensor latents = latent_mask(mask, 4);
  EXPECT_TRUE(at::equal(latents, at::tensor({1.0f, 0.0f, 0.0f, 0.0f}).view({1, 1, 2, 2})));
}

TEST_F(SourceTest, PicturesOfABatchDependOnTheirOwnSeed) {
  for (const NoiseSource rng : {NoiseSource::emulsion, NoiseSource::cpu}) {
    Request asked = request();
    asked.rng = rng;
    asked.seed = 5;
    asked.source.mask = mask();
    const Tensor both = sample_latents(model, asked, silent);
    EXPECT_TRUE(test::close(sample_latents(model, part_of(asked, 1, 1), silent)[0], both[1], 1e-4));
  }
}

}  // namespace
}  // namespace emulsion::generate
