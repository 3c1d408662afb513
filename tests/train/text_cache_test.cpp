#include "train/text_cache.h"

#include "core/error.h"
#include "core/stop.h"
#include "support/support.h"

namespace emulsion::train {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

TEST(TextPlaceTest, TheDiskWhereItHasRoomElseFewInMemoryAndManyNowhere) {
  EXPECT_EQ(text_place(100 << 20, kGiB), TextPlace::disk);
  EXPECT_EQ(text_place(100 << 20, 0), TextPlace::memory);
  EXPECT_EQ(text_place(2 * kGiB, 100 * kGiB), TextPlace::disk);
  EXPECT_EQ(text_place(2 * kGiB, 3 * kGiB), TextPlace::nowhere);     // half of the room at most
  EXPECT_EQ(text_place(100 * kGiB, 900 * kGiB), TextPlace::nowhere);
}

class TextCacheTest : public ::testing::TestWithParam<int64_t> {
 protected:
  TextCacheTest() {
    for (const char* caption : {"a", "b", "a", "c"}) {
      data::Sample sample;
      sample.captions = {caption, "all"};
      index_.samples.push_back(sample);
    }
  }

  TextCache cache(bool pooled = true, const std::string& settings = "encoder 1") {
    const auto encode = [&, pooled](const std::string& caption) {
      encoded_.push_back(caption);
      return models::Conditioning{states(caption), pooled ? states(caption).select(1, 0) : Tensor()};
    };
    return TextCache(index_, encode, [&] { return settings; }, folder_.path(), reporter_, GetParam());
  }

  static Tensor states(const std::string& caption) {
    return at::full({1, 4, 8}, static_cast<double>(std::hash<std::string>()(caption) % 1000), at::kBFloat16);
  }

  data::Index index_;
  test::TempFolder folder_;
  Reporter reporter_;
  std::vector<std::string> encoded_;
};

TEST_P(TextCacheTest, GivesWhatTheEncoderSaidOnceForEachCaption) {
  for (const bool pooled : {true, false}) {
    encoded_.clear();
    const TextCache texts = cache(pooled, pooled ? "with" : "without");
    ASSERT_TRUE(texts.complete());
    EXPECT_EQ(encoded_, (std::vector<std::string>{"", "a", "all", "b", "c"}));
    for (const std::string caption : {"", "a", "b", "c", "all"}) {
      const models::Conditioning found = texts.at(caption);
      EXPECT_TRUE(at::equal(found.context, states(caption))) << caption;
      EXPECT_EQ(found.context.scalar_type(), at::kBFloat16);
      ASSERT_EQ(found.pooled.defined(), pooled);
      if (pooled) {
        EXPECT_TRUE(at::equal(found.pooled, states(caption).select(1, 0))) << caption;
      }
    }
  }
}

TEST_P(TextCacheTest, OnlyTheDiskRemembers) {
  cache();
  encoded_.clear();
  cache();
  EXPECT_EQ(encoded_.size(), GetParam() > 0 ? 1u : 5u);  // "" tells the size
  encoded_.clear();
  cache(true, "encoder 2");
  EXPECT_EQ(encoded_.size(), 5u);
}

TEST_P(TextCacheTest, CanBeStopped) {
  request_stop();
  EXPECT_NE(test::error_message([&] { cache(); }).find("stopped while encoding captions"), std::string::npos);
  clear_stop();
  EXPECT_TRUE(cache().complete());
}

INSTANTIATE_TEST_SUITE_P(Places, TextCacheTest, ::testing::Values(0, kGiB));  // room on the disk

}  // namespace
}  // namespace emulsion::train
