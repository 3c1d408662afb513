#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "config/config.h"
#include "config/example.h"
#include "core/error.h"

namespace emulsion::config {
namespace {

using example::Full;
using example::Lora;
using example::Prediction;
using example::RunFile;

constexpr const char* kWholeFile = R"(
name = "first"
seed = 7
workers = 4
preview = false
device = "cuda"
max_steps = 100
clip = 2          # an integer where a number is expected
resume_from = "a/b"
prediction = "v"

[optimizer]
lr = 1e-5
weight_decay = 0
betas = [0.8, 0]

[method]
type = "full"
train_text = true

[data]
size = 256
buckets = []
[[data.sources]]
folder = "one"
[[data.sources]]
folder = "two"
repeats = 3

[weights]
l1 = 1
"a.b" = 0.5

[extra.third]
folder = "three"

[validation]
every = 5

[[stages]]
type = "lora"
rank = 2
[[stages]]
type = "full"
)";

TEST(FromTomlTest, EmptyTextGivesTheDefaults) {
  const RunFile run = from_toml<RunFile>("", "run.toml");
  EXPECT_EQ(run.name, "run");
  EXPECT_EQ(run.clip, 1.0);
  EXPECT_EQ(std::get<Lora>(run.method).rank, 8);
  EXPECT_EQ(run.weights, (std::map<std::string, double>{{"mse", 1.0}}));
  EXPECT_FALSE(run.validation.has_value());
}

TEST(FromTomlTest, ReadsEveryTypeOfScalar) {
  const RunFile run = from_toml<RunFile>(kWholeFile, "run.toml");
  EXPECT_EQ(run.name, "first");
  EXPECT_EQ(run.seed, 7);
  EXPECT_EQ(run.workers, 4);
  EXPECT_FALSE(run.preview);
  EXPECT_EQ(run.device, "cuda");
  EXPECT_EQ(run.max_steps, 100);
  EXPECT_EQ(run.clip, 2.0);
  EXPECT_EQ(run.resume_from, "a/b");
  EXPECT_EQ(run.prediction, Prediction::v);
}

TEST(FromTomlTest, ReadsNestedTablesListsAndMaps) {
  const RunFile run = from_toml<RunFile>(kWholeFile, "run.toml");
  EXPECT_EQ(run.optimizer.lr, 1e-5);
  EXPECT_EQ(run.optimizer.betas, (std::vector<double>{0.8, 0.0}));
  EXPECT_TRUE(run.data.buckets.empty());
  ASSERT_EQ(run.data.sources.size(), 2u);
  EXPECT_EQ(run.data.sources[0].folder, "one");
  EXPECT_EQ(run.data.sources[0].repeats, 1);
  EXPECT_EQ(run.data.sources[1].repeats, 3);
  EXPECT_EQ(run.weights, (std::map<std::string, double>{{"l1", 1.0}, {"a.b", 0.5}}));
  EXPECT_EQ(run.extra.at("third").folder, "three");
  EXPECT_EQ(run.validation->every, 5);
}

TEST(FromTomlTest, ReadsTheAlternativeThatTypeNames) {
  const RunFile run = from_toml<RunFile>(kWholeFile, "run.toml");
  EXPECT_TRUE(std::get<Full>(run.method).train_text);
  ASSERT_EQ(run.stages.size(), 2u);
  EXPECT_EQ(std::get<Lora>(run.stages[0]).rank, 2);
  EXPECT_EQ(std::get<Lora>(run.stages[0]).alpha, 16.0);
  EXPECT_TRUE(std::holds_alternative<Full>(run.stages[1]));
}

TEST(FromTomlTest, KeepsTheDefaultsOfTheStructThatHoldsTheField) {
  const RunFile run = from_toml<RunFile>("[method]\nalpha = 1", "run.toml");
  EXPECT_EQ(std::get<Lora>(run.method).rank, 8);  // RunFile's default, not Lora's
  EXPECT_EQ(std::get<Lora>(run.method).alpha, 1.0);
}

TEST(FromTomlTest, NoneUnsetsAnOptional) {
  EXPECT_FALSE(from_toml<RunFile>("clip = \"none\"", "run.toml").clip.has_value());
  EXPECT_EQ(from_toml<RunFile>("resume_from = \"none\"", "run.toml").resume_from, "none");
}

TEST(FromTomlTest, ReadsDottedKeysAndInlineTables) {
  const RunFile run =
      from_toml<RunFile>("optimizer.lr = 0.5\nmethod = { type = \"full\" }", "run.toml");
  EXPECT_EQ(run.optimizer.lr, 0.5);
  EXPECT_TRUE(std::holds_alternative<Full>(run.method));
}

TEST(FromTomlTest, ReadsAFile) {
  const auto folder = std::filesystem::temp_directory_path() / "emulsion_config_from_toml_test";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "run.toml") << "seed = 3\n";
  EXPECT_EQ(from_toml_file<RunFile>(folder / "run.toml").seed, 3);
  EXPECT_EQ(from_toml_file<RunFile>(folder / "run.toml", {{"seed", "4"}}).seed, 4);
  EXPECT_THROW(from_toml_file<RunFile>(folder), Error);
  try {
    from_toml_file<RunFile>(folder / "absent.toml");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
    EXPECT_NE(std::string(error.what()).find("absent.toml"), std::string::npos);
  }
  std::filesystem::remove_all(folder);
}

TEST(EnumNamesTest, TranslatesBothWays) {
  EXPECT_STREQ(name_of(Prediction::sample), "sample");
  EXPECT_EQ(value_of<Prediction>("v"), Prediction::v);
  EXPECT_EQ(names_of<Prediction>(), (std::vector<std::string>{"epsilon", "v", "sample"}));
  try {
    value_of<Prediction>("epsilom");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "expected one of epsilon, v, sample, got \"epsilom\"; did you mean 'epsilon'?");
  }
}

}  // namespace
}  // namespace emulsion::config
