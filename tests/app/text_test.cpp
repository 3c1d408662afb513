#include "text.h"

#include <gtest/gtest.h>

namespace emulsion::app {
namespace {

TEST(TextTest, BytesComeInTheUnitThatReads) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(int64_t{23} << 30), "23.0 GiB");
}

TEST(TextTest, SecondsComeAsAClock) {
  EXPECT_EQ(human_seconds(0.44), "0.4 s");
  EXPECT_EQ(human_seconds(12.4), "12 s");
  EXPECT_EQ(human_seconds(185), "3:05");
  EXPECT_EQ(human_seconds(3723), "1:02:03");
  EXPECT_EQ(human_seconds(-1), "?");
  EXPECT_EQ(human_seconds(1e30), "years");
}

TEST(TextTest, CountsHaveThousandsApart) {
  EXPECT_EQ(human_count(7), "7");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1234567), "1,234,567");
  EXPECT_EQ(human_count(-123456), "-123,456");
}

TEST(TextTest, WidthCountsCharactersNotBytes) {
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("Zürich"), 6);
}

TEST(TextTest, ShorteningKeepsCharactersWhole) {
  EXPECT_EQ(shortened("Zürich", 6), "Zürich");
  EXPECT_EQ(shortened("Zürichsee", 5), "Zü...");
  EXPECT_EQ(shortened("abcdef", 2), "..");
}

TEST(TextTest, ColumnsOfATableLineUp) {
  EXPECT_EQ(table({{"a", "bb", "c"}, {"dd", "ü", "e"}}), "  a   bb  c\n  dd  ü   e\n");
}

TEST(TextTest, UnitsHaveASingular) {
  EXPECT_EQ(singular("steps"), "step");
  EXPECT_EQ(singular("batches"), "batch");
  EXPECT_EQ(singular("work"), "work");
  EXPECT_EQ(counted(1, "pictures"), "1 picture");
  EXPECT_EQ(counted(1064, "pictures"), "1,064 pictures");
}

}  // namespace
}  // namespace emulsion::app
