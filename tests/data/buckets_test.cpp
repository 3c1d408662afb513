#include "data/buckets.h"

#include "core/error.h"
#include "support/support.h"

namespace emulsion::data {
namespace {

TEST(BucketsTest, AreThoseOfKohyaFor512) {
  // Published check values: 17 sizes, these and their transposes.
  const std::vector<Size> half = {{256, 832}, {256, 896}, {256, 960}, {256, 1024}, {320, 704},
                                  {320, 768}, {384, 640}, {448, 576}, {512, 512}};
  const auto sizes = make_bucket_resolutions(512, 256, 1024, 64);
  ASSERT_EQ(sizes.size(), 17u);
  for (const auto& [width, height] : half) {
    EXPECT_TRUE(std::binary_search(sizes.begin(), sizes.end(), Size{width, height}));
    EXPECT_TRUE(std::binary_search(sizes.begin(), sizes.end(), Size{height, width}));
  }
}

TEST(BucketsTest, AreThoseOfKohyaFor1024) {
  const auto sizes = make_bucket_resolutions(1024, 256, 2048, 64);
  ASSERT_EQ(sizes.size(), 41u);
  const std::vector<Size> first(sizes.begin(), sizes.begin() + 6);
  EXPECT_EQ(first,
            (std::vector<Size>{
                {256, 2048}, {320, 2048}, {384, 2048}, {448, 2048}, {512, 1856}, {512, 1920}}));
}

TEST(BucketsTest, TinyOnesAreTheBigOnesDividedBy8) {
  auto big = make_bucket_resolutions(512, 256, 1024, 64);
  for (auto& size : big) size = {size.width / 8, size.height / 8};
  EXPECT_EQ(make_bucket_resolutions(64, 32, 128, 8), big);
}

TEST(BucketsTest, DefaultsFollowTheResolution) {
  DataConfig config;
  EXPECT_EQ(Buckets(config).sizes(), make_bucket_resolutions(512, 256, 1024, 64));
  config.resolution = 64;
  EXPECT_EQ(Buckets(config).sizes(), make_bucket_resolutions(64, 32, 128, 8));
  config.buckets = false;
  EXPECT_EQ(Buckets(config).sizes(), (std::vector<Size>{{64, 64}}));
}

TEST(BucketsTest, FitTakesTheExactSizeThenTheNearestShape) {
  const Buckets buckets(DataConfig{});
  EXPECT_EQ(buckets.fit(384, 640).size, (Size{384, 640}));
  EXPECT_EQ(buckets.fit(384, 640).resized, (Size{384, 640}));
  // 1500/1000 = 1.5; nearest of 576/448 = 1.286 and 640/384 = 1.667 is the latter.
  EXPECT_EQ(buckets.fit(1500, 1000).size, (Size{640, 384}));
  // Covering 640x384: scale max(640/1500, 384/1000) = 0.42667 -> 640 x 426.67.
  EXPECT_EQ(buckets.fit(1500, 1000).resized, (Size{640, 427}));
  EXPECT_EQ(buckets.fit(3000, 3001).size, (Size{512, 512}));
  EXPECT_EQ(buckets.fit(100, 10000).size, (Size{256, 1024}));
}

TEST(BucketsTest, SmallPicturesAreEnlargedOnlyIfAllowed) {
  DataConfig config;
  EXPECT_EQ(Buckets(config).fit(100, 100).resized, (Size{512, 512}));
  config.upscale = false;
  EXPECT_EQ(Buckets(config).fit(200, 150).size, (Size{192, 128}));
  EXPECT_EQ(Buckets(config).fit(200, 150).resized, (Size{200, 150}));
  EXPECT_EQ(Buckets(config).fit(2000, 2000).resized, (Size{512, 512}));
  // Smaller than one step: there is nothing to keep, so it is enlarged to the step.
  EXPECT_EQ(Buckets(config).fit(20, 20).size, (Size{64, 64}));
}

TEST(BucketsTest, CropsShareOneSize) {
  DataConfig config;
  config.crop = Crop::random;
  config.crop_size = 96;
  EXPECT_EQ(Buckets(config).fit(1500, 1000).size, (Size{96, 96}));
  EXPECT_EQ(Buckets(config).fit(1500, 1000).resized, (Size{640, 427}));
}

TEST(BucketsTest, EveryFitCoversItsSize) {
  for (const bool upscale : {true, false}) {
    DataConfig config;
    config.upscale = upscale;
    const Buckets buckets(config);
    for (int64_t w = 1; w < 3000; w += 97) {
      for (int64_t h = 1; h < 3000; h += 89) {
        const Fit fit = buckets.fit(w, h);
        ASSERT_GE(fit.resized.width, fit.size.width) << w << "x" << h;
        ASSERT_GE(fit.resized.height, fit.size.height) << w << "x" << h;
        ASSERT_EQ(fit.size.width % 64, 0);
        ASSERT_EQ(fit.size.height % 64, 0);
      }
    }
  }
}

TEST(BucketsTest, ImpossibleLimitsAreRefused) {
  EXPECT_THROW(make_bucket_resolutions(512, 1024, 256, 64), Error);
  EXPECT_THROW(make_bucket_resolutions(32, 32, 64, 64), Error);
}

}  // namespace
}  // namespace emulsion::data
