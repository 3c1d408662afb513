// Network tags and composed prompts.
#include "models/prompt_parts.h"

#include "support/support.h"

namespace emulsion::models {
namespace {

using Parts = std::vector<PromptPart>;
using Tags = std::vector<NetworkTag>;

TEST(PromptPartsTest, TagsAreTakenOut) {
  const auto read = split_prompt("a <lora:my style:0.8>cat<lora:x>, <lyco:y:0.5:0.25> <hypernet:h:1>");
  EXPECT_EQ(read.parts, (Parts{{"a cat,  ", 1}}));
  EXPECT_EQ(read.networks, (Tags{{"lora", "my style", 0.8, 0.8}, {"lora", "x", 1, 1}, {"lora", "y", 0.5, 0.25}, {"hypernet", "h", 1, 1}}));
}

TEST(PromptPartsTest, StrengthsCanBeNamed) {
  EXPECT_EQ(split_prompt("<lora:a:te=0.5:unet=-2>").networks, (Tags{{"lora", "a", 0.5, -2}}));
  EXPECT_EQ(split_prompt("<lora:a:unet=0.3>").networks, (Tags{{"lora", "a", 1, 0.3}}));
  EXPECT_EQ(split_prompt("<lora:a:0.5:unet=0.3>").networks, (Tags{{"lora", "a", 0.5, 0.3}}));
}

TEST(PromptPartsTest, OtherAngleBracketsAreText) {
  for (const std::string prompt : {"a < b > c", "<cat-toy> on a table", "<b:bold>", "<lora:never closed", "<>", "<", "<:x>", "a<lora>"}) {
    const auto read = split_prompt(prompt);
    EXPECT_EQ(read.parts, (Parts{{prompt, 1}}));
    EXPECT_TRUE(read.networks.empty());
  }
}

TEST(PromptPartsTest, BadTagsAreRefusedByName) {
  for (const auto& [prompt, expected] : std::vector<std::pair<std::string, std::string>>{
           {"<lora::1>", "expected a name"},
           {"<lora:>", "expected a name"},
           {"<lora:a:b>", "'b'"},
           {"<lora:a:1:2:3>", "'3'"},
           {"<lora:a:dyn=4>", "'dyn=4'"},
           {"<lora:a:nan>", "'nan'"},
           {"<lora:a:1x>", "'1x'"}}) {
    const std::string message = test::error_message([&] { split_prompt(prompt); });
    EXPECT_NE(message.find(expected), std::string::npos) << message;
    EXPECT_NE(message.find(prompt), std::string::npos) << message;
  }
}

TEST(PromptPartsTest, AndSeparatesTextsWithWeights) {
  EXPECT_EQ(split_prompt("a cat :1.2 AND a dog AND blue: -0.5 ").parts, (Parts{{"a cat", 1.2}, {" a dog ", 1}, {" blue", -0.5}}));
  EXPECT_EQ(split_prompt("a AND b").parts, (Parts{{"a ", 1}, {" b", 1}}));
  EXPECT_EQ(split_prompt("LAND and SAND").parts, (Parts{{"LAND and SAND", 1}}));
  EXPECT_EQ(split_prompt("(x:1.2) AND y:").parts, (Parts{{"(x:1.2) ", 1}, {" y:", 1}}));
  EXPECT_EQ(split_prompt("AND").parts, (Parts{{"", 1}, {"", 1}}));
  EXPECT_EQ(split_prompt("a view, 16:9").parts, (Parts{{"a view, 16:9", 1}}));
}

TEST(PromptPartsTest, HostileTextIsReadInTime) {
  for (const std::string piece : {"<", "<lora:", "AND", ":1 AND ", "<lora:a>"}) {
    std::string prompt;
    while (prompt.size() < 500'000) prompt += piece;
    EXPECT_GE(split_prompt(prompt).parts.size(), 1u);
  }
}

}  // namespace
}  // namespace emulsion::models
