// A run that is killed again and again ends with the bits of one that nobody touched.
#include <unistd.h>

#include <chrono>
#include <random>

#include "core/error.h"
#include "run/tiny_run_files.h"

namespace emulsion::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int kKills = 10;  // for each method
constexpr const char* kTop = "steps = 40\n";
constexpr const char* kTables = "[checkpoint]\nevery = 1\nkeep = 2\n";

void nap(int microseconds) { ::usleep(static_cast<useconds_t>(microseconds)); }

bool is_writing(const fs::path& checkpoints) {
  std::error_code gone;
  for (const auto& entry : fs::directory_iterator(checkpoints, gone)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(".step-") && name.find("tmp") != std::string::npos) return true;
  }
  return false;
}

enum class Moment {
  any_time,           // after a random time: also while it starts, encodes, or finishes
  after_step,         // a random time after a random step
  during_checkpoint,  // while a state is half written
};

/// Waits for the moment, then kills. False if the run ended before.
bool kill_at(Moment moment, Program& program, const fs::path& folder, double typical_seconds, std::mt19937& random) {
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  if (moment == Moment::any_time) {
    const auto until = Clock::now() + std::chrono::duration<double>(typical_seconds * (0.05 + 0.95 * below(1000) / 1000));
    while (Clock::now() < until && program.running()) nap(500);
  } else {
    const int64_t line = lines_in(folder / "metrics.jsonl") + 1 + below(6);
    while (lines_in(folder / "metrics.jsonl") < line && program.running()) nap(200);
    nap(below(3000));
  }
  while (moment == Moment::during_checkpoint && program.running()) {
    if (!is_writing(folder / "checkpoints")) continue;
    if (!program.pause()) return false;
    if (is_writing(folder / "checkpoints")) break;  // it stands still in the middle of the write
    program.signal(SIGCONT);
  }
  if (!program.running()) return false;
  program.signal(SIGKILL);
  return program.wait().signal == SIGKILL;
}

class KillTest : public ::testing::TestWithParam<TinyMethod> {};

TEST_P(KillTest, TenKillsChangeNoBit) {
  const std::string method = GetParam().name;
  TinyRuns runs;
  const fs::path reference = runs.run_file(method, "whole", kTop, kTables);
  const auto begin = Clock::now();
  const Ended whole = run_program({"train", reference.string()});
  ASSERT_EQ(whole.code, 0) << whole.out;
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();

  std::mt19937 random(20240607u + method.size());
  const fs::path file = runs.run_file(method, "killed", kTop, kTables), folder = runs.run_folder(method, "killed");
  const auto compare_and_clear = [&] {
    expect_same_run(folder, runs.run_folder(method, "whole"));
    fs::remove_all(folder);
  };
  int kills = 0, torn = 0, compared = 0;
  for (int attempts = 0; kills < kKills && attempts < 10 * kKills; ++attempts) {
    const Moment moment = static_cast<Moment>(kills % 3 == 0 ? 2 : kills % 3 - 1);
    Program program({"train", file.string()});
    if (kill_at(moment, program, folder, seconds, random)) {
      ++kills;
      torn += is_writing(folder / "checkpoints") ? 1 : 0;
      continue;
    }
    const Ended ended = program.wait();
    ASSERT_EQ(ended.code, 0) << ended.out;
    compare_and_clear();
    ++compared;
  }
  EXPECT_EQ(kills, kKills);
  EXPECT_GE(torn, kKills / 3) << "kills that left a half-written state";
  const Ended rest = run_program({"train", file.string()});
  ASSERT_EQ(rest.code, 0) << rest.out;
  for (const auto& entry : fs::recursive_directory_iterator(folder / "checkpoints")) {
    EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos) << entry.path();
  }
  compare_and_clear();
  RecordProperty("comparisons", compared + 1);
}
INSTANTIATE_TEST_SUITE_P(Methods, KillTest, ::testing::ValuesIn(kTinyMethods), [](const auto& info) { return info.param.name; });

class StopTest : public ::testing::TestWithParam<int> {};

TEST_P(StopTest, ASignalSavesTheStateAndTheRunGoesOnToTheSameBits) {
  TinyRuns runs;
  const std::string tables = "[checkpoint]\nevery = 0\n";
  ASSERT_EQ(run_program({"train", runs.run_file("autoencoder", "whole", kTop, tables).string()}).code, 0);
  const fs::path file = runs.run_file("autoencoder", "stopped", kTop, tables);
  const fs::path folder = runs.run_folder("autoencoder", "stopped");
  Program program({"train", file.string()});
  while (lines_in(folder / "metrics.jsonl") < 5 && program.running()) nap(500);
  const int64_t at_signal = lines_in(folder / "metrics.jsonl");
  program.signal(GetParam());
  const Ended ended = program.wait();
  ASSERT_EQ(ended.code, 75) << ended.out;
  EXPECT_NE(ended.out.find("of 40; the state is saved: run the same command to go on"), std::string::npos) << ended.out;
  // Every step that has a line is in the state: nothing is lost but what was under way.
  const int64_t steps = lines_in(folder / "metrics.jsonl");
  EXPECT_GE(steps, at_signal);
  EXPECT_LT(steps, 40);
  EXPECT_TRUE(fs::exists(folder / "checkpoints" / fmt::format("step-{:08}.safetensors", steps)));
  EXPECT_NE(ended.out.find(fmt::format("stopped at step {} of 40", steps)), std::string::npos) << ended.out;
  const Ended rest = run_program({"train", file.string()});
  ASSERT_EQ(rest.code, 0) << rest.out;
  expect_same_run(folder, runs.run_folder("autoencoder", "whole"));
}
INSTANTIATE_TEST_SUITE_P(Signals, StopTest, ::testing::Values(SIGINT, SIGTERM));

class RepeatTest : public ::testing::TestWithParam<const char*> {};

TEST_P(RepeatTest, TheSameSeedGivesTheSameBitsWithAnyNumberOfLoaderThreads) {
  TinyRuns runs;
  const std::string method = GetParam();
  const auto train = [&](const std::string& output, const std::string& top) {
    const Ended ended = run_program({"train", runs.run_file(method, output, "steps = 15\n" + top).string()});
    ASSERT_EQ(ended.code, 0) << ended.out;
  };
  train("first", "loader_threads = 0\n");
  train("second", "loader_threads = 0\n");
  train("loaded", "loader_threads = 2\n");
  expect_same_run(runs.run_folder(method, "second"), runs.run_folder(method, "first"));
  expect_same_run(runs.run_folder(method, "loaded"), runs.run_folder(method, "first"));
}
INSTANTIATE_TEST_SUITE_P(Methods, RepeatTest, ::testing::Values("autoencoder", "diffusion", "lora"));

TEST(RepeatTest, AnotherSeedGivesOtherBits) {
  TinyRuns runs;
  const fs::path file = runs.run_file("autoencoder", "a", "steps = 3\n");
  ASSERT_EQ(run_program({"train", file.string()}).code, 0);
  ASSERT_EQ(run_program({"train", file.string(), "--set", "seed=4", "--set", "name=other"}).code, 0);
  EXPECT_NE(bytes_of(runs.run_folder("other", "a") / "metrics.jsonl"),
            bytes_of(runs.run_folder("autoencoder", "a") / "metrics.jsonl"));
}

}  // namespace
}  // namespace emulsion::test
