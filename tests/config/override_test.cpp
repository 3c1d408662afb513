#include "config/override.h"

#include <gtest/gtest.h>

#include "config/config.h"
#include "config/example.h"
#include "core/error.h"

namespace emulsion::config {
namespace {

using example::Full;
using example::Lora;
using example::Prediction;
using example::RunFile;

RunFile with(const Overrides& overrides, std::string_view text = "") {
  return from_toml<RunFile>(text, "run.toml", overrides);
}

std::string problems_of(const Overrides& overrides, std::string_view text = "") {
  try {
    with(overrides, text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::config);
    return error.what();
  }
  return "no problem";
}

TEST(OverrideTest, SplitsTheArgumentAtTheFirstEqualsSign) {
  EXPECT_EQ(parse_override("a.b=c=d"), (std::pair<std::string, std::string>{"a.b", "c=d"}));
  EXPECT_EQ(parse_override("a="), (std::pair<std::string, std::string>{"a", ""}));
  EXPECT_THROW(parse_override("a"), Error);
  EXPECT_THROW(parse_override("=a"), Error);
}

TEST(OverrideTest, WinsOverTheFile) {
  const RunFile run = with({{"optimizer.lr", "1e-5"}, {"seed", "3"}}, "[optimizer]\nlr = 0.5");
  EXPECT_EQ(run.optimizer.lr, 1e-5);
  EXPECT_EQ(run.seed, 3);
}

TEST(OverrideTest, TextNeedsNoQuotes) {
  EXPECT_EQ(with({{"name", "my run"}}).name, "my run");
  EXPECT_EQ(with({{"name", "\"my run\""}}).name, "my run");
  EXPECT_EQ(with({{"name", "5"}}).name, "5");
  EXPECT_EQ(with({{"name", "true"}}).name, "true");
  EXPECT_EQ(with({{"name", ""}}).name, "");
  EXPECT_EQ(with({{"name", "1\nseed = 2"}}).name, "1\nseed = 2");
  EXPECT_EQ(with({{"prediction", "v"}}).prediction, Prediction::v);
  EXPECT_EQ(with({{"resume_from", "a/b.safetensors"}}).resume_from, "a/b.safetensors");
}

TEST(OverrideTest, TakesListsAndTablesAsToml) {
  EXPECT_EQ(with({{"optimizer.betas", "[0.5, 0]"}}).optimizer.betas,
            (std::vector<double>{0.5, 0.0}));
  EXPECT_EQ(with({{"validation", "{ every = 3 }"}}).validation->every, 3);
  EXPECT_EQ(with({{"method.targets", "[\"a\", \"b\"]"}}).method.index(), 1u);
}

TEST(OverrideTest, NoneUnsetsAnOptional) {
  EXPECT_FALSE(with({{"clip", "none"}}).clip.has_value());
  EXPECT_FALSE(with({{"max_steps", "none"}}, "max_steps = 3").max_steps.has_value());
  EXPECT_FALSE(with({{"resume_from", "none"}}, "resume_from = \"a\"").resume_from.has_value());
  EXPECT_EQ(with({{"resume_from", "\"none\""}}).resume_from, "none");
}

TEST(OverrideTest, ANumberIndexesAList) {
  const char* text = "[[data.sources]]\nfolder = \"a\"\n[[data.sources]]\nfolder = \"b\"";
  const RunFile run = with({{"data.sources.1.repeats", "5"}}, text);
  EXPECT_EQ(run.data.sources[0].repeats, 1);
  EXPECT_EQ(run.data.sources[1].repeats, 5);
}

TEST(OverrideTest, TheLengthOfAListAppends) {
  const RunFile run = with({{"data.sources.0.folder", "a"}, {"data.sources.0.repeats", "2"}});
  ASSERT_EQ(run.data.sources.size(), 1u);
  EXPECT_EQ(run.data.sources[0].folder, "a");
  EXPECT_EQ(run.data.sources[0].repeats, 2);
}

TEST(OverrideTest, EditsOfListsAndMapsStartFromTheDefault) {
  EXPECT_EQ(with({{"data.buckets.1", "640"}}).data.buckets, (std::vector<int64_t>{512, 640}));
  EXPECT_EQ(with({{"weights.l1", "0.5"}}).weights,
            (std::map<std::string, double>{{"mse", 1.0}, {"l1", 0.5}}));
  EXPECT_EQ(with({{"weights.\"a.b\"", "2"}}).weights.at("a.b"), 2.0);
}

TEST(OverrideTest, TypeSwitchesTheAlternative) {
  const char* text = "[method]\ntype = \"full\"\ntrain_text = true";
  const RunFile run = with({{"method.type", "lora"}, {"method.alpha", "2"}}, text);
  EXPECT_EQ(std::get<Lora>(run.method).alpha, 2.0);
  EXPECT_EQ(std::get<Lora>(run.method).rank, 8);
}

TEST(OverrideTest, TheSameTypeKeepsTheFieldsOfTheFile) {
  const char* text = "[method]\ntype = \"full\"\ntrain_text = true";
  EXPECT_TRUE(std::get<Full>(with({{"method.type", "full"}}, text).method).train_text);
  EXPECT_EQ(std::get<Lora>(with({{"method.type", "lora"}}, "method.rank = 3").method).rank, 3);
}

TEST(OverrideTest, ProblemsAreAtTheArgument) {
  EXPECT_EQ(problems_of({{"optimizer.wieght_decay", "1"}}),
            "--set optimizer.wieght_decay: unknown key 'optimizer.wieght_decay'; did you mean "
            "'weight_decay'?");
  EXPECT_EQ(problems_of({{"optimzer.lr", "1"}}),
            "--set optimzer.lr: unknown key 'optimzer'; did you mean 'optimizer'?");
  EXPECT_EQ(problems_of({{"optimizer.lr", "fast"}}),
            "--set optimizer.lr: 'optimizer.lr': expected a number, got string \"fast\"");
  EXPECT_EQ(problems_of({{"optimizer.lr", "-1"}}),
            "--set optimizer.lr: 'optimizer.lr' is -1; expected more than 0");
  EXPECT_EQ(problems_of({{"optimizer.lr.x", "1"}}),
            "--set optimizer.lr.x: 'optimizer.lr': expected a number, got a table");
  EXPECT_EQ(problems_of({{"method.type", "lore"}}),
            "--set method.type: 'method.type' is \"lore\"; expected one of \"full\", \"lora\"; did "
            "you mean 'lora'?");
  EXPECT_EQ(problems_of({{"data.sources.0.repeats", "2"}}),
            "--set data.sources.0.repeats: missing 'data.sources.0.folder'; expected a string: "
            "Folder of pictures.");
  EXPECT_EQ(problems_of({{"data.sources.2.repeats", "2"}}),
            "--set data.sources.2.repeats: expected an index from 0 to 0 (which appends), got '2'");
  EXPECT_EQ(problems_of({{"", "2"}}),
            "expected a path like optimizer.lr or data.sources.0.repeats, got ''");
}

TEST(OverrideTest, ProblemsOfFileAndArgumentComeTogether) {
  EXPECT_EQ(problems_of({{"seed", "x"}}, "nmae = 1\n"),
            "run.toml:1:1: unknown key 'nmae'; did you mean 'name'?\n"
            "--set seed: 'seed': expected an integer, got string \"x\"");
}

TEST(OverrideTest, AnArgumentMendsTheFile) {
  EXPECT_EQ(with({{"seed", "1"}}, "seed = \"broken\"").seed, 1);
}

TEST(OverrideFieldTest, ChangesOneFieldOfAStruct) {
  RunFile run;
  run.seed = 5;
  run.data.sources = {{"a", 1}};
  override_field(run, "optimizer.lr", "1e-5");
  override_field(run, "data.sources.0.repeats", "4");
  override_field(run, "clip", "none");
  EXPECT_EQ(run.seed, 5);
  EXPECT_EQ(run.optimizer.lr, 1e-5);
  EXPECT_EQ(run.data.sources[0].repeats, 4);
  EXPECT_EQ(run.data.sources[0].folder, "a");
  EXPECT_FALSE(run.clip.has_value());
}

TEST(OverrideFieldTest, SwitchesTheAlternativeToItsDefaults) {
  RunFile run;
  run.method = Lora{.rank = 99};
  override_field(run, "method.type", "full");
  EXPECT_FALSE(std::get<Full>(run.method).train_text);
  override_field(run, "method.type", "lora");
  EXPECT_EQ(std::get<Lora>(run.method).rank, 8);
}

TEST(OverrideFieldTest, LeavesTheStructAloneOnError) {
  RunFile run;
  run.seed = 5;
  try {
    override_field(run, "method.rank", "0");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "--set method.rank: 'method.rank' is 0; expected at least 1");
  }
  EXPECT_EQ(run.seed, 5);
  EXPECT_EQ(std::get<Lora>(run.method).rank, 8);
}

}  // namespace
}  // namespace emulsion::config
