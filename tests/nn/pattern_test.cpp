// Globs over layer paths, and what a list of them selects.
#include "nn/pattern.h"

#include <gtest/gtest.h>

#include "support/support.h"

namespace emulsion::nn {
namespace {

const std::vector<std::string> kNames = {"unet.down.0.attn1.to_q", "unet.down.0.attn1.to_out.0", "unet.down.0.conv1",
                                         "unet.mid.attn2.to_q", "text_encoder.layers.0.fc1"};

TEST(PatternTest, AStarCrossesDotsAndAQuestionMarkIsOneCharacter) {
  EXPECT_TRUE(glob_match("unet.*.to_q", "unet.down.0.attn1.to_q"));
  EXPECT_TRUE(glob_match("*attn?.to_*", "unet.down.0.attn1.to_out.0"));
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("a*b*c", "aXbYbZc"));
  EXPECT_FALSE(glob_match("a?c", "ac"));
  EXPECT_FALSE(glob_match("unet.*.to_q", "unet.down.0.attn1.to_q.weight"));
  EXPECT_FALSE(glob_match("", "a"));
}

TEST(PatternTest, CharactersOfOtherPatternLanguagesMeanThemselves) {
  EXPECT_TRUE(glob_match("a.[b]", "a.[b]"));
  EXPECT_FALSE(glob_match("a.b", "aXb"));
  EXPECT_FALSE(glob_match("[ab]", "a"));
}

TEST(PatternTest, SelectionKeepsTheOrderOfTheNamesAndTakesEachOnce) {
  EXPECT_EQ(select({"*.to_*", "unet.mid.*"}, kNames),
            (std::vector<std::string>{kNames[0], kNames[1], kNames[3]}));
}

TEST(PatternTest, AnExclamationMarkExcludes) {
  EXPECT_EQ(select({"unet.*", "!*.conv?", "!*.to_out.*"}, kNames), (std::vector<std::string>{kNames[0], kNames[3]}));
}

TEST(PatternTest, APatternThatMatchesNothingIsAnErrorWithExamples) {
  const std::string message = test::error_message([] { select({"unet.*", "unet.*.to_w"}, kNames); });
  EXPECT_NE(message.find("'unet.*.to_w' matches none of 5 layers"), std::string::npos) << message;
  EXPECT_NE(message.find(kNames[0]), std::string::npos) << message;
  const std::string excluded = test::error_message([] { select({"*", "!vae.*"}, kNames); });
  EXPECT_NE(excluded.find("'!vae.*'"), std::string::npos) << excluded;
}

}  // namespace
}  // namespace emulsion::nn
