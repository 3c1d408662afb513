// The folder of a run: whose it is, its checkpoints, and what happens to damaged ones.
#include "train/run_folder.h"

#include "core/error.h"
#include "train/tiny_runs.h"

namespace emulsion::train {
namespace {

namespace fs = std::filesystem;
using test::expect_contains;

class RunFolderTest : public ::testing::Test {
 protected:
  void save(int64_t step, int64_t keep) {
    RunFolder(config).save_state({step, {{"weight/a", at::full({64}, static_cast<double>(step))}}}, keep);
  }
  std::vector<std::string> checkpoints(const RunFolder& folder) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder / "checkpoints")) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  test::TempFolder temp;
  RunConfig config = test::tiny_run(temp.path());
};

TEST_F(RunFolderTest, HoldsTheEffectiveConfig) {
  const RunFolder folder(config);
  EXPECT_EQ(folder.path(), fs::path(config.output) / config.name);
  const auto read = config::from_toml<RunConfig>(io::read_file(folder / "config.toml"), "config.toml");
  EXPECT_EQ(config::diff(read, config), "");
  EXPECT_NO_THROW(RunFolder{config});
}

TEST_F(RunFolderTest, TheRunOfAnotherConfigIsRefusedWithTheDifference) {
  const RunFolder folder(config);
  RunConfig other = config;
  other.optimizer = optim::AdamWConfig{.lr = 0.125};
  other.batch_size = 7;
  const std::string before = io::read_file(folder / "config.toml");
  expect_contains(test::error_message([&] { RunFolder{other}; }),
                  {folder.path().string(), "optimizer.lr: 0.001 -> 0.125", "batch_size: 2 -> 7", "--set name="});
  EXPECT_EQ(io::read_file(folder / "config.toml"), before);
}

TEST_F(RunFolderTest, WhatDecidesNothingOfWhatIsDoneMayChange) {
  const RunFolder folder(config);
  save(2, 2);
  RunConfig other = config;
  other.preview.every = 50;
  other.checkpoint.every = 7;
  other.memory_limit = 3;
  const RunFolder again(other);
  expect_contains(again.changed(), {"preview.every: 0 -> 50", "checkpoint.every: 0 -> 7", "memory_limit"});
  EXPECT_EQ(RunFolder(other).changed(), "");
  EXPECT_EQ(config::diff(config::from_toml<RunConfig>(io::read_file(folder / "config.toml"), "config.toml"), other), "");
}

TEST_F(RunFolderTest, StepsMayChangeWhileNoLearningRateOfTheStepsDoneDoes) {
  const auto with = [&](int64_t steps) {
    RunConfig other = config;
    other.steps = steps;
    return other;
  };
  config.schedule.shape = optim::LrSchedule::warmup_stable_decay;
  config.schedule.decay_fraction = 0.5;
  config.steps = 20;
  RunFolder{config};
  save(12, 2);
  expect_contains(test::error_message([&] { RunFolder{with(40)}; }), {"steps: 20 -> 40", "learning rate"});  // 10 to 12 decayed
  config.name = "constant";
  config.schedule = {};
  RunFolder{config};
  save(12, 2);
  EXPECT_EQ(RunFolder(with(40)).changed(), "steps: 20 -> 40\n");
  EXPECT_EQ(RunFolder(with(12)).changed(), "steps: 40 -> 12\n");
  expect_contains(test::error_message([&] { RunFolder{with(11)}; }), {"steps: 12 -> 11"});
}

TEST_F(RunFolderTest, AFinishedRunThatGetsMoreStepsIsNotFinishedAnyMore) {
  RunFolder folder(config);
  save(config.steps, 2);
  folder.mark_finished("result");
  RunConfig longer = config;
  longer.steps += 5;
  EXPECT_TRUE(RunFolder(config).finished_result());
  EXPECT_FALSE(RunFolder(longer).finished_result());
  folder.mark_finished("result");
  fs::remove_all(folder / "checkpoints");
  RunConfig longest = longer;
  longest.steps += 5;
  expect_contains(test::error_message([&] { RunFolder{longest}; }), {"steps"});  // from where should it go on?
}

TEST_F(RunFolderTest, KeepsTheNewestStates) {
  const RunFolder folder(config);
  EXPECT_FALSE(folder.load_state().has_value());
  for (const int64_t step : {2, 9, 10, 11}) save(step, 2);
  EXPECT_EQ(checkpoints(folder), (std::vector<std::string>{"step-00000010.safetensors", "step-00000011.safetensors"}));
  const auto state = folder.load_state();
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->step, 11);
  ASSERT_EQ(state->tensors.size(), 1u);
  EXPECT_EQ(state->tensors[0].first, "weight/a");
  EXPECT_EQ(state->tensors[0].second[0].item<float>(), 11);
}

TEST_F(RunFolderTest, ADamagedNewestStateIsPassedOver) {
  const RunFolder folder(config);
  const auto damage = std::vector<std::function<void(const fs::path&)>>{
      [](const fs::path& file) { fs::resize_file(file, fs::file_size(file) - 1); },
      [](const fs::path& file) { fs::resize_file(file, 0); },
      [](const fs::path& file) { std::ofstream(file) << "no safetensors at all"; },
      [](const fs::path& file) { io::write_safetensors(file, {{"a", at::zeros({1})}}); },  // no step in it
  };
  for (const auto& harm : damage) {
    save(5, 2);
    save(6, 2);
    harm(folder / "checkpoints" / "step-00000006.safetensors");
    ::testing::internal::CaptureStderr();
    const auto state = folder.load_state();
    expect_contains(::testing::internal::GetCapturedStderr(), {"step-00000006.safetensors", "passed over"});
    ASSERT_TRUE(state.has_value());
    EXPECT_EQ(state->step, 5);
  }
}

TEST_F(RunFolderTest, LeftoversOfKilledWritersGo) {
  const RunFolder folder(config);
  std::ofstream(folder / "checkpoints" / ".step-00000003.safetensors.tmp-123-4") << "half";
  std::ofstream(folder / ".finished.tmp-123-5") << "half";
  RunFolder again(config);
  EXPECT_TRUE(checkpoints(again).empty());
  EXPECT_FALSE(fs::exists(folder / ".finished.tmp-123-5"));
}

TEST_F(RunFolderTest, AFinishedRunKnowsItsResult) {
  RunFolder folder(config);
  EXPECT_FALSE(folder.finished_result().has_value());
  folder.mark_finished(folder / "model");
  EXPECT_EQ(RunFolder(config).finished_result(), folder / "model");
}

TEST_F(RunFolderTest, APlaceThatCannotBeWrittenIsAnIoErrorWithARemedy) {
  config.output = "/proc/runs";
  expect_contains(test::error_message([&] { RunFolder{config}; }), {"/proc/runs", "--set output="});
  std::ofstream(temp / "file") << "text";
  config.output = (temp / "file").string();
  expect_contains(test::error_message([&] { RunFolder{config}; }), {(temp / "file").string()});
}

}  // namespace
}  // namespace emulsion::train
