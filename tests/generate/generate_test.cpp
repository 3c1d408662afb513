// From prompts to pictures: defaults, prompts of any length, weights, seeds, the text in a PNG, grids.
#include "generate/generate.h"

#include "core/error.h"
#include "weights/tiny_model.h"

namespace emulsion::generate {
namespace {

using test::expect_contains;

Request request_for(std::vector<std::string> prompts) {
  Request request;
  request.prompts = std::move(prompts);
  request.steps = 4;
  request.cfg = 3;
  return request;
}

class GenerateTest : public ::testing::Test {
 protected:
  Tensor states(const std::string& prompt, PromptSyntax syntax = PromptSyntax::weighted) const {
    const at::NoGradGuard no_grad;
    return text_states(model, {prompt}, {.syntax = syntax}).context;
  }
  Tensor draw(const Request& request) {
    Reporter silent;
    return sample_latents(model, request, silent);
  }
  std::string refusal(const std::function<void(Request&)>& change) {
    Request request = request_for({"a"});
    change(request);
    return test::error_message([&] { resolve(request, model); });
  }

  models::Model model = test::tiny_model();
};

TEST_F(GenerateTest, DefaultsComeFromTheModel) {
  const Request full = resolve(request_for({"a"}), model);
  EXPECT_EQ(full.width, 16);
  EXPECT_EQ(full.height, 16);
  EXPECT_EQ(full.sampler, "ddim");
  EXPECT_EQ(full.schedule, "leading");
  Request asked = request_for({"a"});
  asked.width = 32;
  asked.sampler = "euler";
  asked.schedule = "karras";
  const Request kept = resolve(asked, model);
  EXPECT_EQ(kept.width, 32);
  EXPECT_EQ(kept.height, 16);
  EXPECT_EQ(kept.sampler, "euler");
  EXPECT_EQ(kept.schedule, "karras");
}

TEST_F(GenerateTest, WhatDoesNotFitIsRefusedWithExpectedAndActual) {
  expect_contains(refusal([](Request& r) { r.width = 17; }), {"17x16", "divisible by 2"});
  expect_contains(refusal([](Request& r) { r.height = -16; }), {"16x-16"});
  expect_contains(refusal([](Request& r) { r.prompts.clear(); }), {"expected at least one prompt"});
  expect_contains(refusal([](Request& r) { r.sampler = "eular"; }), {"'eular'", "euler"});
  expect_contains(refusal([](Request& r) { r.schedule = "karas"; }), {"karas", "karras"});
  expect_contains(refusal([](Request& r) { r.init_latents = at::zeros({2, 4, 8, 8}); }),
                  {"expected [1, 4, 8, 8], got [2, 4, 8, 8]"});
  model.vae.reset();
  expect_contains(refusal([](Request&) {}), {"'vae' is missing"});
}

TEST_F(GenerateTest, LongPromptsAreReadInChunks) {
  std::string prompt;
  for (int i = 0; i < 100; ++i) prompt += "a b ";
  const Tensor long_states = states(prompt);
  EXPECT_EQ(long_states.size(1) % 77, 0);
  EXPECT_GT(long_states.size(1), 77);
  // In a batch the short one is filled up with windows of empty text.
  const at::NoGradGuard no_grad;
  const Tensor both = text_states(model, {prompt, "a"}).context;
  EXPECT_EQ(both.size(1), long_states.size(1));
  EXPECT_TRUE(test::close(both[0], long_states[0], 1e-5));
  EXPECT_TRUE(test::close(both[1].narrow(0, 0, 77), states("a")[0], 1e-5));
  EXPECT_TRUE(test::close(both[1].narrow(0, 77, 77), states("")[0], 1e-5));
  EXPECT_TRUE(draw(request_for({prompt})).isfinite().all().item<bool>());
}

TEST_F(GenerateTest, WeightsChangeTheStatesAndPlainSyntaxTakesThemAsText) {
  EXPECT_FALSE(test::close(states("a (b:1.5)"), states("a b"), 1e-3));
  EXPECT_TRUE(test::close(states("a (b:1.0)"), states("a b"), 1e-6));
  EXPECT_TRUE(test::close(states("a b", PromptSyntax::plain), states("a b"), 1e-6));
  // As text, brackets and number are tokens of their own.
  EXPECT_TRUE(test::close(states("a (b:1.5)", PromptSyntax::plain), states("a \\(b:1.5\\)"), 1e-6));
  EXPECT_FALSE(test::close(states("a (b:1.5)", PromptSyntax::plain), states("a (b:1.5)"), 1e-3));
}

TEST_F(GenerateTest, WeightsScaleATokenAndKeepTheMean) {
  const Tensor plain = states("a b"), weighted = states("a (b:1.5)");
  EXPECT_NEAR(weighted.mean().item<double>(), plain.mean().item<double>(), 1e-6);
  // Token 2 is "b": against token 1 it counts 1.5 times as much as before.
  const Tensor ratio = (weighted[0][2] / plain[0][2]) / (weighted[0][1] / plain[0][1]);
  EXPECT_TRUE(test::close(ratio, at::full_like(ratio, 1.5), 1e-4));
}

TEST_F(GenerateTest, ThePictureOfABatchDependsOnItsOwnSeedOnly) {
  for (const char* sampler : {"ddim", "euler_ancestral", "dpmpp_2m"}) {
    Request request = request_for({"a", "a", "a"});
    request.sampler = sampler;
    request.schedule = "normal";
    request.seed = 7;
    const Tensor batch = draw(request);
    for (int64_t i = 0; i < 3; ++i) {
      request.prompts = {"a"};
      request.seed = 7 + i;
      EXPECT_TRUE(test::close(batch[i], draw(request)[0], 1e-4)) << sampler << " " << i;
    }
    EXPECT_FALSE(test::close(batch[0], batch[1], 1e-1));
  }
}

TEST_F(GenerateTest, PromptNegativeAndGuidanceMatter) {
  const Tensor base = draw(request_for({"a"}));
  EXPECT_TRUE(at::equal(base, draw(request_for({"a"}))));
  EXPECT_FALSE(test::close(draw(request_for({"b"})), base, 1e-4));
  Request negative = request_for({"a"});
  negative.negative = "b";
  EXPECT_FALSE(test::close(draw(negative), base, 1e-4));
  negative.negative = "a";  // guidance between equal texts is none, at any scale
  Request unguided = request_for({"a"});
  unguided.cfg = 1;
  EXPECT_TRUE(test::close(draw(negative), draw(unguided), 1e-4));
}

TEST_F(GenerateTest, GivenLatentsReplaceTheSeed) {
  Request request = request_for({"a"});
  request.init_latents = Rng(9).normal({1, 4, 8, 8}, Purpose::sample);
  const Tensor from_latents = draw(request);
  request.seed = 99;
  EXPECT_TRUE(at::equal(draw(request), from_latents));
}

TEST_F(GenerateTest, DecodedPicturesAreBytesOfTheRightSize) {
  const Tensor pictures = decode_latents(model, at::randn({9, 4, 8, 6}));
  EXPECT_EQ(pictures.sizes(), (std::vector<int64_t>{9, 16, 12, 3}));
  EXPECT_EQ(pictures.scalar_type(), at::kByte);
  expect_contains(test::error_message([&] { decode_latents(model, at::full({1, 4, 8, 8}, NAN)); }),
                  {"NaN", "float32"});
}

TEST_F(GenerateTest, ASeedMeansWhatTheSourceOfNoiseSays) {
  Request request = request_for({"a", "b"});
  request.sampler = "euler_ancestral";
  request.seed = 11;
  std::vector<Tensor> drawn;
  for (const NoiseSource source : {NoiseSource::emulsion, NoiseSource::cpu, NoiseSource::nv}) {
    request.rng = source;
    request.init_latents = Tensor();
    drawn.push_back(draw(request));
    // The first numbers of each picture's sequence are its initial latents; the sampler's follow, given latents or not.
    request.init_latents = BatchNoise(source, 11, 2).draw({4, 8, 8});
    EXPECT_TRUE(at::equal(drawn.back(), draw(request)));
  }
  EXPECT_FALSE(test::close(drawn[0], drawn[1], 1e-1));
  EXPECT_FALSE(test::close(drawn[1], drawn[2], 1e-1));
}

TEST_F(GenerateTest, PartsOfARequestAreTheSamePictures) {
  Request request = request_for({"a", "b", "a b"});
  request.seed = 3;
  const Tensor all = draw(request);
  EXPECT_TRUE(test::close(draw(part_of(request, 1, 2)), all.narrow(0, 1, 2), 1e-4));
  request.init_latents = at::randn({3, 4, 8, 8});
  EXPECT_TRUE(at::equal(part_of(request, 2, 1).init_latents, request.init_latents.narrow(0, 2, 1)));
}

TEST_F(GenerateTest, ARescaledGuidanceIsAnotherPicture) {
  Request request = request_for({"a"});
  request.cfg = 12;
  const Tensor plain = draw(request);
  request.cfg_rescale = 0.7;
  EXPECT_FALSE(test::close(draw(request), plain, 1e-3));
  request.cfg_rescale = 0;
  request.clip_skip = 2;
  EXPECT_THROW(draw(request), Error);  // the text encoder has one layer
}

TEST(GridTest, AGridIsAboutAsWideAsHigh) {
  const std::vector<std::pair<int64_t, int64_t>> cases = {{1, 1}, {2, 2}, {3, 2}, {4, 2}, {6, 3}, {9, 3}, {10, 4}, {16, 4}};
  for (const auto& [count, columns] : cases) EXPECT_EQ(grid_columns(count), columns) << count;
}

TEST(GridTest, PicturesStandInRowsWithWhiteBetween) {
  Tensor pictures = at::zeros({5, 3, 4, 3}, at::kByte);
  for (int64_t i = 0; i < 5; ++i) pictures[i].fill_(10 * (i + 1));
  const Tensor grid = make_grid(pictures, 2, 1);
  ASSERT_EQ(grid.sizes(), (std::vector<int64_t>{3 * 4 + 1, 2 * 5 + 1, 3}));
  EXPECT_EQ(grid[0].min().item<int>(), 255);
  EXPECT_EQ(grid[1][1][0].item<int>(), 10);
  EXPECT_EQ(grid[3][4][2].item<int>(), 10);
  EXPECT_EQ(grid[1][5][0].item<int>(), 255);
  EXPECT_EQ(grid[1][6][0].item<int>(), 20);
  EXPECT_EQ(grid[9][1][0].item<int>(), 50);
  EXPECT_EQ(grid[9][6][0].item<int>(), 255);  // no sixth picture
}

TEST(GridTest, FewerPicturesThanColumnsMakeOneNarrowRow) {
  EXPECT_EQ(make_grid(at::zeros({2, 8, 8, 3}, at::kByte), 8).sizes(), (std::vector<int64_t>{12, 22, 3}));
}

}  // namespace
}  // namespace emulsion::generate
