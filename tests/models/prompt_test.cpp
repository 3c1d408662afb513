#include "models/prompt.h"

#include "support/support.h"

namespace emulsion::models {
namespace {

struct Case {
  std::string prompt;
  std::vector<WeightedText> expected;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.prompt; }

class PromptTest : public ::testing::TestWithParam<Case> {};

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
    ::testing::Values(Case{"", {{"", 1}}}, Case{"normal text", {{"normal text", 1}}},
                      Case{"an (important) word", {{"an ", 1}, {"important", 1.1}, {" word", 1}}},
                      Case{"((x))", {{"x", 1.1 * 1.1}}}, Case{"[x]", {{"x", 1 / 1.1}}},
                      Case{"([x])", {{"x", 1}}}, Case{"(word:1.3)", {{"word", 1.3}}},
                      Case{"(word:.5)", {{"word", 0.5}}}, Case{"(word : 1.3 )", {{"word ", 1.3}}},
                      Case{"(word:-1)", {{"word", -1}}}, Case{"(word:+2)", {{"word", 2}}},
                      Case{"((a) b:2)", {{"a", 2.2}, {" b", 2}}}, Case{"(a:b)", {{"a:b", 1.1}}},
                      Case{"(a:nan)", {{"a:nan", 1.1}}},
                      Case{"(a:1.5", {{"a:1.5", 1.1}}},  // not closed, so 1.5 is text
                      Case{"a:1.5)", {{"a:1.5)", 1}}},   // not opened, so all is text
                      Case{"[a:1.5]", {{"a:1.5", 1 / 1.1}}},
                      Case{R"(\(literal\] \[x\) \\)", {{R"((literal] [x) \)", 1}}},
                      Case{R"(a\b)", {{R"(a\b)", 1}}},
                      Case{"unnecessary(parens)", {{"unnecessary", 1}, {"parens", 1.1}}},
                      Case{"(unbalanced", {{"unbalanced", 1.1}}},
                      Case{"[un(balanced", {{"un", 1 / 1.1}, {"balanced", 1}}},
                      Case{"a (house:1.3) [on] a (hill:0.5), sun, (((sky)))",
                           {{"a ", 1},
                            {"house", 1.3},
                            {" ", 1},
                            {"on", 1 / 1.1},
                            {" a ", 1},
                            {"hill", 0.5},
                            {", sun, ", 1},
                            {"sky", 1.1 * 1.1 * 1.1}}},
                      Case{"(a)(b)", {{"ab", 1.1}}}, Case{"x BREAK y", {{"x ", 1}, {"y", 1, true}}},
                      Case{"BREAKFAST and xBREAK", {{"BREAKFAST and xBREAK", 1}}}));

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

TEST(WeightedTokensTest, AnEmptyPromptIsOneChunk) {
  const auto tokenizer = ClipTokenizer::truncated(0);
  const auto chunks = tokenise_prompt(tokenizer, "");
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].ids, tokenizer.encode_padded(""));
}

}  // namespace
}  // namespace emulsion::models
