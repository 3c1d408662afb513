#include "models/prompt.h"

#include "support/support.h"

namespace emulsion::models {
namespace {

struct PromptCase {
  std::string prompt;
  std::vector<WeightedText> expected;
};

void PrintTo(const PromptCase& c, std::ostream* out) { *out << c.prompt; }

class PromptTest : public ::testing::TestWithParam<PromptCase> {};

TEST_P(PromptTest, ReadsEmphasis) {
  const auto actual = parse_prompt(GetParam().prompt);
  const auto& expected = GetParam().expected;
  ASSERT_EQ(actual.size(), expected.size()) << actual.front().text;
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(actual[i].text, expected[i].text);
    EXPECT_NEAR(actual[i].weight, expected[i].weight, 1e-12);
    EXPECT_EQ(actual[i].starts_chunk, expected[i].starts_chunk);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Documented, PromptTest,
    ::testing::Values(PromptCase{"", {{"", 1}}}, PromptCase{"normal text", {{"normal text", 1}}},
                      PromptCase{"an (important) word", {{"an ", 1}, {"important", 1.1}, {" word", 1}}},
                      PromptCase{"((x))", {{"x", 1.1 * 1.1}}}, PromptCase{"[x]", {{"x", 1 / 1.1}}},
                      PromptCase{"([x])", {{"x", 1}}}, PromptCase{"(word:1.3)", {{"word", 1.3}}},
                      PromptCase{"(word:.5)", {{"word", 0.5}}}, PromptCase{"(word : 1.3 )", {{"word ", 1.3}}},
                      PromptCase{"(word:-1)", {{"word", -1}}}, PromptCase{"(word:+2)", {{"word", 2}}},
                      PromptCase{"((a) b:2)", {{"a", 2.2}, {" b", 2}}}, PromptCase{"(a:b)", {{"a:b", 1.1}}},
                      PromptCase{"(a:nan)", {{"a:nan", 1.1}}},
                      PromptCase{"(a:1.5", {{"a:1.5", 1.1}}},  // not closed, so 1.5 is text
                      PromptCase{"a:1.5)", {{"a:1.5)", 1}}},   // not opened, so all is text
                      PromptCase{"[a:1.5]", {{"a:1.5", 1 / 1.1}}},
                      PromptCase{R"(\(literal\] \[x\) \\)", {{R"((literal] [x) \)", 1}}},
                      PromptCase{R"(a\b\)", {{"ab", 1}}},
                      PromptCase{"unnecessary(parens)", {{"unnecessary", 1}, {"parens", 1.1}}},
                      PromptCase{"(unbalanced", {{"unbalanced", 1.1}}},
                      PromptCase{"[un(balanced", {{"un", 1 / 1.1}, {"balanced", 1}}},
                      PromptCase{"a (house:1.3) [on] a (hill:0.5), sun, (((sky)))",
                           {{"a ", 1},
                            {"house", 1.3},
                            {" ", 1},
                            {"on", 1 / 1.1},
                            {" a ", 1},
                            {"hill", 0.5},
                            {", sun, ", 1},
                            {"sky", 1.1 * 1.1 * 1.1}}},
                      PromptCase{"(a)(b)", {{"ab", 1.1}}}, PromptCase{"x BREAK y", {{"x ", 1}, {"y", 1, true}}},
                      PromptCase{"BREAKFAST and xBREAK", {{"BREAKFAST and xBREAK", 1}}}));

TEST(PromptHostileTest, DeepAndLongPromptsAreReadInTime) {
  for (const std::string piece : {"(", "(a", "[a", "([", "\\", ":", "(a:1.1)", "BREAK ", "(a:", ")"}) {
    std::string prompt;
    while (prompt.size() < 500'000) prompt += piece;
    EXPECT_GE(parse_prompt(prompt).size(), 1u) << piece;
    for (int i = 0; i < 100'000; ++i) prompt += ")";
    EXPECT_GE(parse_prompt(prompt).size(), 1u) << piece;
  }
}

TEST(WeightedTokensTest, CarryTheWeightOfTheirText) {
  const auto tokenizer = ClipTokenizer::standard();
  const auto chunks = tokenise_prompt(tokenizer, "a (cat:1.5), dog");
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].ids, tokenizer.encode_padded("a cat, dog"));
  std::vector<double> weights(77, 1.0);
  weights[2] = 1.5;
  EXPECT_EQ(chunks[0].weights, weights);
}

TEST(WeightedTokensTest, AreCutIntoChunksLikePlainText) {
  const auto tokenizer = ClipTokenizer::truncated(0);
  std::string text;
  for (int i = 0; i < 80; ++i) text += i == 70 ? ", " : "a ";
  const auto chunks = tokenise_prompt(tokenizer, text);
  const auto plain = tokenizer.encode_chunks(text);
  ASSERT_EQ(chunks.size(), 2u);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(chunks[i].ids, plain[i]);
  EXPECT_EQ(chunks[0].ids[72], tokenizer.eos());  // 71 tokens up to the comma
}

TEST(WeightedTokensTest, BreakBeginsANewChunk) {
  const auto tokenizer = ClipTokenizer::standard();
  const auto chunks = tokenise_prompt(tokenizer, "red cat BREAK blue dog");
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].ids, tokenizer.encode_padded("red cat"));
  EXPECT_EQ(chunks[1].ids, tokenizer.encode_padded("blue dog"));
}

TEST(NamedTokensTest, ANameBecomesItsVectors) {
  const auto tokenizer = ClipTokenizer::standard();
  const std::vector<NamedTokens> names = {{"my-style", 50000, 3}, {"my-style-2", 50003, 1}};
  const auto chunk = tokenise_prompt(tokenizer, "a (My-Style:1.5) cat, my-style-2", names).front();
  const auto before = tokenizer.encode("a"), after = tokenizer.encode("cat,");
  std::vector<int64_t> ids = {tokenizer.bos(), before[0], 50000, 50001, 50002, after[0], after[1], 50003, tokenizer.eos()};
  ids.resize(77, tokenizer.pad());
  EXPECT_EQ(chunk.ids, ids);
  for (int i = 2; i < 5; ++i) EXPECT_EQ(chunk.weights[i], 1.5);
  EXPECT_EQ(chunk.weights[5], 1);
  EXPECT_EQ(chunk.weights[7], 1);
}

TEST(NamedTokensTest, AreNeverCutInTwo) {
  const auto tokenizer = ClipTokenizer::truncated(0);
  std::string text;
  for (int i = 0; i < 73; ++i) text += "a ";
  const auto chunks = tokenise_prompt(tokenizer, text + "zz b", {{"zz", 1000, 4}});
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].ids[74], tokenizer.eos());
  EXPECT_EQ(chunks[1].ids[1], 1000);
  EXPECT_EQ(chunks[1].ids[4], 1003);
  EXPECT_EQ(chunks[1].ids[6], tokenizer.eos());
}

TEST(NamedTokensTest, MoreVectorsThanAWindowHoldsAreRefused) {
  const std::string message =
      test::error_message([] { tokenise_prompt(ClipTokenizer::truncated(0), "zz", {{"zz", 1000, 76}}); });
  EXPECT_NE(message.find("'zz': expected 1 to 75 vectors, got 76"), std::string::npos) << message;
}

TEST(WeightedTokensTest, AnEmptyPromptIsOneChunk) {
  const auto tokenizer = ClipTokenizer::truncated(0);
  const auto chunks = tokenise_prompt(tokenizer, "");
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].ids, tokenizer.encode_padded(""));
}

}  // namespace
}  // namespace emulsion::models
