// Prompts that change from step to step. Expected texts: those that the documentation of A1111's web UI gives, written
// out, and cases by hand.
#include "models/prompt_timeline.h"

#include "support/support.h"

namespace emulsion::models {
namespace {

struct TimelineCase {
  std::string prompt;
  std::vector<TimedText> expected;
  int64_t steps = 10;
};

void PrintTo(const TimelineCase& c, std::ostream* out) { *out << c.prompt; }

class TimelineTest : public ::testing::TestWithParam<TimelineCase> {};

TEST_P(TimelineTest, ReadsEditing) {
  EXPECT_EQ(prompt_timeline(GetParam().prompt, GetParam().steps), GetParam().expected);
}

/// `a` and `b` in turn for ten steps.
std::vector<TimedText> turns(const std::vector<std::string>& texts) {
  std::vector<TimedText> timeline;
  for (size_t i = 0; i < 10; ++i) timeline.push_back({static_cast<int64_t>(i + 1), texts[i % texts.size()]});
  return timeline;
}

INSTANTIATE_TEST_SUITE_P(
    Documented, TimelineTest,
    ::testing::Values(
        TimelineCase{"test", {{10, "test"}}}, TimelineCase{"a [b:3]", {{3, "a "}, {10, "a b"}}},
        TimelineCase{"a [b: 3]", {{3, "a "}, {10, "a b"}}}, TimelineCase{"a [[[b]]:2]", {{2, "a "}, {10, "a [[b]]"}}},
        TimelineCase{"[(a:2):3]", {{3, ""}, {10, "(a:2)"}}}, TimelineCase{"a [b : c : 1] d", {{1, "a b  d"}, {10, "a  c  d"}}},
        TimelineCase{"a[b:[c:d:2]:1]e", {{1, "abe"}, {2, "ace"}, {10, "ade"}}}, TimelineCase{"a [unbalanced", {{10, "a [unbalanced"}}},
        TimelineCase{"a [b:.5] c", {{5, "a  c"}, {10, "a b c"}}},
        TimelineCase{"((a][:b:c [d:3]", {{3, "((a][:b:c "}, {10, "((a][:b:c d"}}},
        TimelineCase{"[a|(b:1.1)]", turns({"a", "(b:1.1)"})}, TimelineCase{"[fe|]male", turns({"female", "male"})},
        TimelineCase{"[fe|||]male", turns({"female", "male", "male", "male"})},
        TimelineCase{"fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]"
             "[ in background:0.25] [shoddy:masterful:0.5]",
             {{25, "fantasy landscape with a mountain and an oak in foreground shoddy"},
              {50, "fantasy landscape with a lake and an oak in foreground in background shoddy"},
              {60, "fantasy landscape with a lake and an oak in foreground in background masterful"},
              {75, "fantasy landscape with a lake and an oak in background masterful"},
              {100, "fantasy landscape with a lake and a christmas tree in background masterful"}},
             100}));

INSTANTIATE_TEST_SUITE_P(
    ByHand, TimelineTest,
    ::testing::Values(
        TimelineCase{"", {{10, ""}}}, TimelineCase{"[a:b:0.4]", {{4, "a"}, {10, "b"}}}, TimelineCase{"[a::0.4]", {{4, "a"}, {10, ""}}},
        TimelineCase{"[a:b:20]", {{10, "a"}}},                     // beyond the last step
        TimelineCase{"[a:b:0]", {{10, "b"}}}, TimelineCase{"[a:b:-1]", {{10, "b"}}},
        TimelineCase{"[a:b:1.0]", {{10, "a"}}},                    // with a point: a share of the steps
        TimelineCase{"[a:b:1]", {{1, "a"}, {10, "b"}}}, TimelineCase{"[a:b:+3 ]", {{3, "a"}, {10, "b"}}},
        TimelineCase{"[a:b]", {{10, "[a:b]"}}},                    // no number
        TimelineCase{"[a:b:c:3]", {{10, "[a:b:c:3]"}}},            // too many texts
        TimelineCase{"[a:b:inf]", {{10, "[a:b:inf]"}}}, TimelineCase{"[a:b:3x]", {{10, "[a:b:3x]"}}},
        TimelineCase{"[a|b:3]", {{10, "[a|b:3]"}}},                // neither one nor the other
        TimelineCase{"[3]", {{10, "[3]"}}},                        // emphasis
        TimelineCase{"(a:3)", {{10, "(a:3)"}}}, TimelineCase{"a:b|c", {{10, "a:b|c"}}},
        TimelineCase{R"(\[a:b:3\] [c\:d:3])", {{3, R"(\[a:b:3\] )"}, {10, R"(\[a:b:3\] c\:d)"}}},
        TimelineCase{"[a|[b:c:2]]", {{1, "a"}, {2, "b"}, {3, "a"}, {4, "c"}, {5, "a"}, {6, "c"}, {7, "a"}, {8, "c"}, {9, "a"}, {10, "c"}}},
        TimelineCase{"[[a|b]:c:2]", {{1, "a"}, {2, "b"}, {3, "c"}, {4, "c"}, {5, "c"}, {6, "c"}, {7, "c"}, {8, "c"}, {9, "c"}, {10, "c"}}},
        TimelineCase{"(red [cat:dog:5]:1.3)", {{5, "(red cat:1.3)"}, {10, "(red dog:1.3)"}}},
        TimelineCase{"[a [b:c:3]", {{3, "[a b"}, {10, "[a c"}}},   // the outer bracket never closes
        TimelineCase{"x] [a:3]", {{3, "x] "}, {10, "x] a"}}}));

TEST(TimelineStepTest, TheTextHoldsThroughTheNumberedStep) {
  const auto timeline = prompt_timeline("[a:b:3]", 10);
  EXPECT_EQ(text_at(timeline, 0), "a");
  EXPECT_EQ(text_at(timeline, 3), "a");
  EXPECT_EQ(text_at(timeline, 4), "b");
  EXPECT_EQ(text_at(timeline, 9), "b");
  EXPECT_EQ(text_at(timeline, 99), "b");
}

TEST(TimelineHostileTest, DeepAndLongPromptsAreReadInTime) {
  for (const std::string piece : {"[", "(", "[a:", "[a|", "]", "[(", "\\", ":", "[a:b:1]", "[:1]"}) {
    std::string prompt;
    while (prompt.size() < 200'000) prompt += piece;
    EXPECT_GE(prompt_timeline(prompt, 4).size(), 1u) << piece;
    for (int i = 0; i < 1000; ++i) prompt += "]";
    EXPECT_GE(prompt_timeline(prompt, 4).size(), 1u) << piece;
  }
}

}  // namespace
}  // namespace emulsion::models
