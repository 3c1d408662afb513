#include "terminal.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace emulsion::app {
namespace {

using nlohmann::json;

/// A world with a clock that stands still until told otherwise.
struct World {
  std::string text;
  double seconds = 100;
  int64_t columns = 100;

  Surroundings surroundings() {
    return {.write = [this](std::string_view more) { text += more; },
            .now = [this] { return seconds; },
            .memory = [] { return int64_t{3} << 29; },
            .width = [this] { return columns; },
            .colour = false,
            .unicode = false};
  }

  /// What was written since the last call.
  std::string taken() { return std::exchange(text, ""); }
};

std::vector<json> json_lines(const std::string& text) {
  std::vector<json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
  return lines;
}

// --- Rates ---------------------------------------------------------------------------------------

TEST(PhaseTest, ASteadyRateIsFoundExactly) {
  Phase phase("Training", 100, "steps", 0, 0);
  EXPECT_EQ(phase.seconds_left(), -1);
  for (int i = 1; i <= 10; ++i) phase.advance(i, 2.0 * i);
  EXPECT_DOUBLE_EQ(phase.seconds_per_unit(), 2.0);
  EXPECT_DOUBLE_EQ(phase.seconds_left(), 180.0);
}

TEST(PhaseTest, RecentStepsCountMost) {
  Phase phase("Training", 1000, "steps", 0, 0);
  double now = 0;
  for (int i = 1; i <= 10; ++i) phase.advance(i, now += 10);
  for (int i = 11; i <= 211; ++i) phase.advance(i, now += 1);
  EXPECT_NEAR(phase.seconds_per_unit(), 1.0, 0.02);  // all together: 1.43
}

TEST(PhaseTest, WhatWasDoneBeforeDoesNotCountAsFast) {
  Phase phase("Encoding", 100, "pictures", 90, 0);
  phase.advance(91, 3);
  EXPECT_DOUBLE_EQ(phase.seconds_per_unit(), 3.0);
  EXPECT_DOUBLE_EQ(phase.seconds_left(), 27.0);
}

// --- Terminal ------------------------------------------------------------------------------------

TEST(TerminalReporterTest, AnnouncesAPhaseWithItsSize) {
  World world;
  TerminalReporter reporter(world.surroundings());
  reporter.begin("Encoding pictures", 1064, "pictures", 0);
  EXPECT_EQ(world.taken(), "Encoding pictures: 1,064 pictures\n");
  reporter.end("");
  reporter.begin("Encoding pictures", 64, "pictures", 20);
  EXPECT_NE(world.taken().find("64 pictures, 20 of them done before\n"), std::string::npos);
}

TEST(TerminalReporterTest, TheLineShowsStepFiguresSpeedTimeLeftAndMemory) {
  World world;
  TerminalReporter reporter(world.surroundings());
  reporter.begin("Training", 100, "steps", 0);
  world.taken();
  world.seconds += 25;
  reporter.advance(50, {{"loss", 0.12345}});
  EXPECT_EQ(world.taken(),
            "\r\x1b[K  ##########----------  50%  50/100 steps  loss 0.1235  0.5 s/step  25 s left "
            " 1.5 GiB");
}

TEST(TerminalReporterTest, RedrawsAtMostTenTimesASecond) {
  World world;
  TerminalReporter reporter(world.surroundings());
  reporter.begin("Training", 1000, "steps", 0);
  int draws = 0;
  for (int i = 1; i <= 400; ++i) {  // 4 s
    world.seconds += 0.01;
    world.taken();
    reporter.advance(i, {});
    draws += world.text.empty() ? 0 : 1;
  }
  EXPECT_GE(draws, 30);
  EXPECT_LE(draws, 40);
}

TEST(TerminalReporterTest, TheLineNeverReachesTheEdge) {
  for (const int64_t columns : {20, 40, 60, 80, 200}) {
    World world;
    world.columns = columns;
    TerminalReporter reporter(world.surroundings());
    reporter.begin("Training", 100000, "steps", 0);
    world.taken();
    world.seconds += 2000;
    reporter.advance(12345, {{"loss", 0.123456}, {"grad_norm", 12.5}, {"lr", 1e-4}});
    const std::string line = world.taken().substr(4);
    EXPECT_LT(static_cast<int64_t>(line.size()), columns) << line;
    EXPECT_NE(line.find("12%"), std::string::npos) << line;
  }
}

TEST(TerminalReporterTest, ANoteScrollsAboveTheLine) {
  World world;
  TerminalReporter reporter(world.surroundings());
  reporter.begin("Training", 100, "steps", 0);
  world.seconds += 10;
  reporter.advance(10, {});
  world.taken();
  reporter.note("left out: a.png");
  const std::string text = world.taken();
  EXPECT_TRUE(text.starts_with("\r\x1b[Kleft out: a.png\n  ##")) << text;
}

TEST(TerminalReporterTest, AWarningScrollsAboveTheLineToo) {
  World world;
  TerminalReporter reporter(world.surroundings());
  reporter.show_log();
  reporter.begin("Training", 10, "steps", 0);
  world.taken();
  log::warning("{} is damaged", "step-1");
  const std::string text = world.taken();
  EXPECT_TRUE(text.starts_with("\r\x1b[Kwarning: step-1 is damaged\n")) << text;
  EXPECT_NE(text.find("0/10 steps"), text.npos) << text;
}

TEST(TerminalReporterTest, TheEndSaysHowLongItTookAndWhatCameOfIt) {
  World world;
  TerminalReporter reporter(world.surroundings());
  reporter.begin("Training", 100, "steps", 0);
  reporter.advance(100, {});
  world.seconds += 75;
  world.taken();
  reporter.end("loss 0.1");
  EXPECT_EQ(world.taken(), "\r\x1b[K  done in 1:15; loss 0.1\n");
}

TEST(TerminalReporterTest, APhaseThatStopsEarlySaysSo) {
  World world;
  TerminalReporter reporter(world.surroundings());
  reporter.begin("Training", 100, "steps", 0);
  reporter.advance(40, {});
  world.taken();
  reporter.end("");
  EXPECT_EQ(world.taken(), "\r\x1b[K  stopped at 40/100 steps after 0.0 s\n");
}

TEST(TerminalReporterTest, APhaseWithinAPhaseLeavesNoTrace) {
  World world;
  TerminalReporter reporter(world.surroundings());
  reporter.begin("Training", 100, "steps", 0);
  world.taken();
  reporter.begin("Drawing", 20, "steps", 0);
  world.seconds += 1;
  reporter.advance(5, {});
  EXPECT_NE(world.text.find("Drawing  25%"), std::string::npos) << world.text;
  reporter.end("");
  EXPECT_EQ(world.text.find('\n'), std::string::npos);
  world.taken();
  reporter.advance(50, {});
  EXPECT_NE(world.taken().find("50/100 steps"), std::string::npos);
}

TEST(TerminalReporterTest, WhatIsNotThePhasesWorkDoesNotCountAsSlow) {
  World world;
  TerminalReporter reporter(world.surroundings());
  reporter.begin("Training", 100, "steps", 0);
  world.seconds += 2;
  reporter.advance(1, {});
  reporter.begin("Preview", 8, "pictures", 0);
  world.seconds += 500;
  reporter.end("");
  reporter.resume();
  world.seconds += 2;
  world.taken();
  reporter.advance(2, {});
  EXPECT_NE(world.text.find("2 s/step"), std::string::npos) << world.text;
}

// --- Plain lines ---------------------------------------------------------------------------------

TEST(PlainReporterTest, WritesWholeLinesWithoutControlCharacters) {
  World world;
  PlainReporter reporter(world.surroundings());
  reporter.begin("Training", 100, "steps", 0);
  for (int i = 1; i <= 100; ++i) {
    world.seconds += 0.5;
    reporter.advance(i, {{"loss", 1.0 / i}});
  }
  reporter.note("a note");
  reporter.end("");
  EXPECT_EQ(world.text.find('\r'), std::string::npos);
  EXPECT_EQ(world.text.find('\x1b'), std::string::npos);
  EXPECT_TRUE(world.text.starts_with("Training: 100 steps\n")) << world.text;
  EXPECT_TRUE(world.text.ends_with("a note\nTraining: done in 50 s\n")) << world.text;
  EXPECT_NE(world.text.find("Training: 10%, 10/100 steps, loss 0.1, 0.5 s/step, 45 s left"),
            std::string::npos)
      << world.text;
  EXPECT_EQ(std::count(world.text.begin(), world.text.end(), '\n'),
            13);  // begin, tenths, note, end
}

TEST(PlainReporterTest, SlowWorkIsHeardOfEveryTenSeconds) {
  World world;
  PlainReporter reporter(world.surroundings());
  reporter.begin("Training", 100000, "steps", 0);
  for (int i = 1; i <= 60; ++i) {
    world.seconds += 1;
    reporter.advance(i, {});
  }
  EXPECT_EQ(std::count(world.text.begin(), world.text.end(), '\n'), 7);
}

TEST(PlainReporterTest, APhaseWithinAPhaseIsHeardOfIfItLasts) {
  World world;
  PlainReporter reporter(world.surroundings());
  reporter.begin("Training", 100, "steps", 0);
  world.taken();
  reporter.begin("Drawing", 20, "steps", 0);
  reporter.advance(20, {});
  reporter.end("");
  EXPECT_EQ(world.taken(), "");
  reporter.begin("Drawing", 20, "steps", 0);
  world.seconds += 11;
  reporter.advance(10, {});
  reporter.end("");
  EXPECT_TRUE(world.text.starts_with("Drawing: 50%, 10/20 steps")) << world.text;
  EXPECT_NE(world.text.find("Drawing: stopped at 10/20 steps after 11 s\n"), std::string::npos) << world.text;
}

TEST(PlainReporterTest, QuickWorkIsTwoLines) {
  World world;
  PlainReporter reporter(world.surroundings());
  reporter.begin("Encoding", 64, "pictures", 0);
  for (int i = 1; i <= 64; ++i) reporter.advance(i, {});
  reporter.end("");
  EXPECT_EQ(world.text, "Encoding: 64 pictures\nEncoding: done in 0.0 s\n");
}

// --- JSON ----------------------------------------------------------------------------------------

TEST(JsonReporterTest, EveryLineIsAnObjectWithItsEvent) {
  World world;
  JsonReporter reporter(world.surroundings());
  reporter.begin("Training", 10, "steps", 2);
  world.seconds += 1;
  reporter.advance(3, {{"loss", 0.5}});
  reporter.note("a \"note\"");
  reporter.end("done");
  const auto lines = json_lines(world.text);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(
      lines[0],
      json::parse(R"({"event":"begin","phase":"Training","total":10,"unit":"steps","done":2})"));
  EXPECT_EQ(lines[1]["event"], "progress");
  EXPECT_EQ(lines[1]["done"], 3);
  EXPECT_EQ(lines[1]["loss"], 0.5);
  EXPECT_EQ(lines[1]["seconds_per_unit"], 1.0);
  EXPECT_EQ(lines[1]["seconds_left"], 7.0);
  EXPECT_EQ(lines[2]["text"], "a \"note\"");
  EXPECT_EQ(lines[3]["summary"], "done");
}

TEST(JsonReporterTest, EveryFigureIsToldAndBareProgressTenTimesASecond) {
  World world;
  JsonReporter reporter(world.surroundings());
  reporter.begin("Training", 1000, "steps", 0);
  for (int i = 1; i <= 50; ++i) {
    world.seconds += 0.01;
    reporter.advance(i, {{"loss", 1.0}});
  }
  EXPECT_EQ(json_lines(world.taken()).size(), 51u);
  for (int i = 51; i <= 100; ++i) {
    world.seconds += 0.01;
    reporter.advance(i, {});
  }
  EXPECT_LE(json_lines(world.taken()).size(), 6u);
}

TEST(ReporterTest, AdvancingWithoutAPhaseIsHarmless) {
  World world;
  TerminalReporter reporter(world.surroundings());
  reporter.advance(3, {});
  reporter.end("");
  EXPECT_EQ(world.text, "");
}

}  // namespace
}  // namespace emulsion::app
