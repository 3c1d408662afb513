#include "data/loader.h"

#include <set>

#include "core/error.h"
#include "data/pictures.h"
#include "support/support.h"

namespace emulsion::data {
namespace {

using test::TempFolder;

class LoaderTest : public ::testing::Test {
 protected:
  LoaderTest() {
    for (int i = 0; i < 6; ++i) {
      write_ramp(folder_ / fmt::format("square_{}.png", i), 40, 40, static_cast<uint8_t>(i));
    }
    for (int i = 0; i < 3; ++i) {
      write_ramp(folder_ / fmt::format("wide_{}.png", i), 64, 32, static_cast<uint8_t>(100 + i));
    }
    config_.sources = {source_at(folder_.path())};
    config_.resolution = 32;
    config_.flip = 0.5;
    config_.crop = Crop::random;
    config_.caption_dropout = 0.3;
  }

  std::vector<Batch> load(int threads, int64_t first, int count, int64_t budget = 1 << 30) {
    const Index index = scan(config_);
    const BatchPlan plan(index, config_, 4, 11);
    const BatchSource source(index, config_, plan, 11, budget);
    Loader loader(source, first, threads);
    std::vector<Batch> batches;
    for (int i = 0; i < count; ++i) batches.push_back(loader.next());
    return batches;
  }

  static void expect_equal(const std::vector<Batch>& a, const std::vector<Batch>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].index, b[i].index);
      EXPECT_TRUE(at::equal(a[i].pixels, b[i].pixels)) << i;
      EXPECT_EQ(a[i].captions, b[i].captions);
      EXPECT_EQ(a[i].ids, b[i].ids);
    }
  }

  TempFolder folder_;
  DataConfig config_;
};

TEST_F(LoaderTest, BatchesDoNotDependOnThreadsStartOrMemory) {
  const auto reference = load(0, 0, 12);
  expect_equal(load(1, 0, 12), reference);
  expect_equal(load(3, 0, 12), reference);
  expect_equal(load(2, 0, 12, /*budget=*/0), reference);
  expect_equal(load(2, 5, 7), {reference.begin() + 5, reference.end()});
}

TEST_F(LoaderTest, PixelsAreThePictureInItsPlace) {
  config_.flip = 0;
  config_.crop = Crop::center;
  config_.resolution = 40;
  config_.buckets = false;
  for (const auto& batch : load(0, 0, 3)) {
    ASSERT_EQ(batch.pixels.sizes(), (std::vector<int64_t>{4, 3, 40, 40}));
    EXPECT_TRUE(batch.pixels.is_contiguous(at::MemoryFormat::ChannelsLast));
    EXPECT_EQ(batch.pixels.scalar_type(), at::kFloat);
    for (int64_t i = 0; i < 4; ++i) {
      if (!batch.ids[i].starts_with("square")) continue;
      // Red counts columns, green rows, blue is the number of the picture.
      const auto pixel = [&](int64_t c, int64_t y, int64_t x) {
        return (batch.pixels[i][c][y][x].item<float>() + 1.0f) * 127.5f;
      };
      EXPECT_NEAR(pixel(0, 3, 17), 17, 1e-4);
      EXPECT_NEAR(pixel(1, 3, 17), 3, 1e-4);
      EXPECT_NEAR(pixel(2, 3, 17), batch.ids[i][7] - '0', 1e-4);
    }
  }
}

TEST_F(LoaderTest, FlipsMirrorColumns) {
  config_.crop = Crop::center;
  config_.resolution = 40;
  config_.buckets = false;
  const Index index = scan(config_);
  const BatchPlan plan(index, config_, 4, 11);
  const BatchSource source(index, config_, plan, 11);
  std::set<bool> seen;
  for (int64_t k = 0; k < 4; ++k) {
    const Batch batch = source.load(k);
    for (size_t i = 0; i < 4; ++i) {
      seen.insert(batch.flipped[i]);
      const Tensor plain = source.picture(batch.samples[i], false);
      EXPECT_TRUE(at::equal(batch.pixels[static_cast<int64_t>(i)],
                            batch.flipped[i] ? plain.flip({2}) : plain));
      EXPECT_TRUE(at::equal(source.picture(batch.samples[i], true), plain.flip({2})));
    }
  }
  EXPECT_EQ(seen.size(), 2u);
}

TEST_F(LoaderTest, RandomCropsLieInsideThePictureAndVary) {
  config_.flip = 0;
  config_.resolution = 40;
  config_.buckets = false;
  config_.crop_size = 16;
  std::set<int> columns;
  for (const auto& batch : load(0, 0, 10)) {
    ASSERT_EQ(batch.pixels.sizes(), (std::vector<int64_t>{4, 3, 16, 16}));
    for (int64_t i = 0; i < 4; ++i) {
      if (!batch.ids[i].starts_with("square")) continue;
      const auto red = (batch.pixels[i][0] + 1) * 127.5;
      const int left = static_cast<int>(red[0][0].item<float>() + 0.5f);
      columns.insert(left);
      EXPECT_NEAR(red[15][15].item<float>(), left + 15, 1e-3);
    }
  }
  EXPECT_GT(columns.size(), 8u);
  EXPECT_LE(*columns.rbegin(), 24);
}

TEST_F(LoaderTest, ErrorsOfWorkersComeOutOfNext) {
  const Index index = scan(config_);
  const BatchPlan plan(index, config_, 9, 11);
  const BatchSource source(index, config_, plan, 11, 0);
  std::filesystem::remove(index.samples[0].path);
  Loader loader(source, 0, 2);
  std::string message;
  for (int i = 0; i < 4 && message.empty(); ++i) {
    try {
      loader.next();
    } catch (const Error& error) {
      message = error.what();
    }
  }
  EXPECT_NE(message.find("square_0.png"), std::string::npos) << message;
}

TEST_F(LoaderTest, CanBeDroppedAtAnyTime) {
  const Index index = scan(config_);
  const BatchPlan plan(index, config_, 4, 11);
  const BatchSource source(index, config_, plan, 11);
  for (int i = 0; i < 20; ++i) {
    Loader loader(source, i, 3);
    if (i % 2 == 0) loader.next();
  }
}

TEST_F(LoaderTest, BatchesWithoutPixelsAgreeWithThoseWith) {
  const Index index = scan(config_);
  const BatchPlan plan(index, config_, 4, 11);
  const BatchSource source(index, config_, plan, 11);
  Loader with(source, 0, 0), without(source, 0, 1, /*pixels=*/false);
  for (int i = 0; i < 5; ++i) {
    const Batch a = with.next(), b = without.next();
    EXPECT_FALSE(b.pixels.defined());
    EXPECT_EQ(a.captions, b.captions);
    EXPECT_EQ(a.flipped, b.flipped);
    EXPECT_EQ(a.draws, b.draws);
  }
}

TEST_F(LoaderTest, AFixedBatchIsWhatTrainingSeesWithoutChance) {
  DataConfig settled = config_;
  settled.flip = settled.caption_dropout = 0;
  settled.crop = Crop::center;
  settled.buckets = false;  // wide pictures lose their sides
  const Index index = scan(settled);
  const BatchPlan plan(index, settled, 9, 11);
  const Batch trained = BatchSource(index, settled, plan, 11).load(0);
  const Batch fixed = BatchSource(index, config_, plan, 5).fixed(trained.samples);  // another's chance plays no part
  EXPECT_TRUE(at::equal(fixed.pixels, trained.pixels));
  EXPECT_TRUE(at::equal(fixed.size_ids, trained.size_ids));
  EXPECT_EQ(fixed.size_ids.select(1, 3).max().item<float>(), 16) << "64 pixels cut to 32 in the middle";
  EXPECT_EQ(fixed.captions, trained.captions);
  EXPECT_EQ(fixed.ids, trained.ids);
}

TEST(ChoicesTest, FollowTheirProbabilities) {
  DataConfig config;
  config.flip = 0.25;
  config.caption_dropout = 0.1;
  Sample sample;
  sample.captions = {"a", "b", "c"};
  std::map<std::string, int> captions;
  int flips = 0;
  constexpr int kDraws = 20000;
  for (int64_t draw = 0; draw < kDraws; ++draw) {
    flips += choose(config, 5, draw).flip;
    ++captions[choose_caption(sample, config, 5, draw)];
  }
  // Within five standard deviations of the binomial distribution.
  EXPECT_NEAR(flips, 0.25 * kDraws, 5 * std::sqrt(kDraws * 0.25 * 0.75));
  EXPECT_NEAR(captions[""], 0.1 * kDraws, 5 * std::sqrt(kDraws * 0.1 * 0.9));
  for (const char* caption : {"a", "b", "c"}) {
    EXPECT_NEAR(captions[caption], 0.3 * kDraws, 5 * std::sqrt(kDraws * 0.3 * 0.7));
  }
}

TEST(ChoicesTest, ShufflingKeepsTheFirstTagsAndLosesNone) {
  DataConfig config;
  config.shuffle_tags = true;
  config.keep_tags = 1;
  Sample sample;
  sample.captions = {"cat, red , big,,small"};
  std::set<std::string> seen;
  for (int64_t draw = 0; draw < 200; ++draw) seen.insert(choose_caption(sample, config, 5, draw));
  EXPECT_EQ(seen, (std::set<std::string>{"cat, red, big, small", "cat, red, small, big",
                                         "cat, big, red, small", "cat, big, small, red",
                                         "cat, small, red, big", "cat, small, big, red"}));
}

TEST(ChoicesTest, DroppedTagsAreEachOfTheirOwnChance) {
  DataConfig config;
  config.tag_dropout = 0.3;
  config.keep_tags = 1;
  Sample sample;
  sample.captions = {"cat, red , big,,small"};
  std::map<std::string, int> seen;
  constexpr int kDraws = 20000;
  for (int64_t draw = 0; draw < kDraws; ++draw) ++seen[choose_caption(sample, config, 5, draw)];
  // In their order, the first always: 0.7 and 0.3 of the three others, whatever the rest does.
  const std::map<std::string, double> expected = {
      {"cat, red, big, small", 0.343}, {"cat, red, big", 0.147}, {"cat, red, small", 0.147},
      {"cat, big, small", 0.147},      {"cat, red", 0.063},      {"cat, big", 0.063},
      {"cat, small", 0.063},           {"cat", 0.027}};
  EXPECT_EQ(seen.size(), expected.size());
  for (const auto& [caption, p] : expected) {
    EXPECT_NEAR(seen[caption], p * kDraws, 5 * std::sqrt(kDraws * p * (1 - p))) << caption;
  }
  config.shuffle_tags = true;
  std::set<std::string> shuffled;
  for (int64_t draw = 0; draw < 2000; ++draw) {
    shuffled.insert(choose_caption(sample, config, 5, draw));
  }
  EXPECT_EQ(shuffled.size(), 16U);  // 6 orders of three, 6 of two, 3 of one, none
  EXPECT_TRUE(shuffled.contains("cat, small, red"));
}

TEST(ChoicesTest, CaptionsOfOldRunsStay) {
  DataConfig config;
  config.shuffle_tags = true;
  Sample sample;
  sample.captions = {"a, b, c, d, e"};
  for (int64_t draw = 0; draw < 20; ++draw) {
    Stream stream = Rng(5).stream(Purpose::caption, static_cast<uint64_t>(draw));
    stream.uniform();  // dropout
    stream.below(1);   // which caption
    std::string expected;
    for (const int64_t place : stream.permutation(5)) {
      expected += (expected.empty() ? "" : ", ") + std::string(1, static_cast<char>('a' + place));
    }
    EXPECT_EQ(choose_caption(sample, config, 5, draw), expected);
  }
}

TEST(BackgroundTest, TransparentPixelsGetTheColour) {
  // A picture whose left half is opaque red and whose right half is transparent: 2x1 RGBA PNG.
  const unsigned char bytes[] = {
      0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44,
      0x52, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x01, 0x08, 0x06, 0x00, 0x00, 0x00, 0xf4,
      0x22, 0x7f, 0x8a, 0x00, 0x00, 0x00, 0x0f, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0xf8,
      0xcf, 0xc0, 0xf0, 0x1f, 0x08, 0x19, 0x00, 0x0f, 0xf9, 0x02, 0xfe, 0x94, 0x3c, 0x3d, 0xb3,
      0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};
  TempFolder folder;
  write_text(folder / "a.png", std::string(reinterpret_cast<const char*>(bytes), sizeof(bytes)));
  DataConfig config;
  config.sources = {source_at(folder.path())};
  config.resolution = 16;
  config.buckets = false;
  config.background = "#0000ff";
  const auto corner = [&](const DataConfig& c, int64_t k) {
    const Index index = scan(c);
    const BatchPlan plan(index, c, 1, 3);
    const BatchSource source(index, c, plan, 3);
    const Tensor pixels = (source.load(k).pixels[0] + 1) * 127.5;  // 32x16 cut to its middle
    return std::pair(pixels.select(2, 0).select(1, 8), pixels.select(2, 15).select(1, 8));
  };
  const auto [left, right] = corner(config, 0);
  EXPECT_NEAR(left[0].item<float>(), 255, 12);
  EXPECT_NEAR(right[2].item<float>(), 255, 12);
  EXPECT_NEAR(right[0].item<float>(), 0, 12);
  config.random_background = 1;
  std::set<int> seen;
  for (int64_t k = 0; k < 8; ++k) {
    const auto [opaque, transparent] = corner(config, k);
    EXPECT_NEAR(opaque[0].item<float>(), 255, 14) << "opaque pixels stay";
    EXPECT_LT(opaque[2].item<float>(), 30);
    for (int64_t c = 0; c < 3; ++c) EXPECT_GT(transparent[c].item<float>(), 140) << "light";
    seen.insert(static_cast<int>(transparent[1].item<float>()));
  }
  EXPECT_GT(seen.size(), 4u);
}

}  // namespace
}  // namespace emulsion::data
