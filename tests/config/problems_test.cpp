// Every message that a run file can give rise to.
#include <gtest/gtest.h>

#include <optional>

#include "config/config.h"
#include "config/example.h"
#include "core/error.h"

namespace emulsion::config {
namespace {

using example::RunFile;

template <class T = RunFile>
std::string problems_of(std::string_view text) {
  try {
    from_toml<T>(text, "run.toml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::config);
    return error.what();
  }
  return "no problem";
}

struct Case {
  const char* text;
  const char* problem;
};

void expect_each(std::initializer_list<Case> cases) {
  for (const Case& c : cases) EXPECT_EQ(problems_of(c.text), c.problem) << c.text;
}

TEST(ProblemsTest, UnknownKeyNamesTheClosest) {
  expect_each({
      {"\n\n[optimizer]\nlr = 1e-4\n\nwieght_decay = 0",
       "run.toml:6:1: unknown key 'optimizer.wieght_decay'; did you mean 'weight_decay'?"},
      {"optimzer.lr = 1", "run.toml:1:1: unknown key 'optimzer'; did you mean 'optimizer'?"},
      {"optimizer = { l = 1 }", "run.toml:1:15: unknown key 'optimizer.l'; did you mean 'lr'?"},
      {"[method]\ntype = \"lora\"\nrnak = 1",
       "run.toml:3:1: unknown key 'method.rnak'; did you mean 'rank'?"},
      {"[[data.sources]]\nfolder = \"a\"\nrepeat = 2",
       "run.toml:3:1: unknown key 'data.sources.0.repeat'; did you mean 'repeats'?"},
  });
}

TEST(ProblemsTest, UnknownKeyIsLookedForElsewhere) {
  expect_each({
      {"lr = 1", "run.toml:1:1: unknown key 'lr'; did you mean 'optimizer.lr'?"},
      {"[optimizer]\nseed = 1", "run.toml:2:1: unknown key 'optimizer.seed'; did you mean 'seed'?"},
      {"[method]\ntype = \"full\"\nrank = 1",
       "run.toml:3:1: unknown key 'method.rank'; did you mean 'method(lora).rank'?"},
  });
}

TEST(ProblemsTest, UnknownKeyFarFromAllListsThem) {
  expect_each({
      {"[optimizer]\nmomentum = 1",
       "run.toml:2:1: unknown key 'optimizer.momentum'; expected one of lr, weight_decay, betas"},
      {"[method]\ntype = \"full\"\nmomentum = 1",
       "run.toml:3:1: unknown key 'method.momentum'; expected one of type, train_text"},
  });
}

TEST(ProblemsTest, WrongTypeSaysWhatWasExpectedAndFound) {
  expect_each({
      {"[optimizer]\nlr = \"x\"",
       "run.toml:2:6: 'optimizer.lr': expected a number, got string \"x\""},
      {"seed = 1.5", "run.toml:1:8: 'seed': expected an integer, got number 1.5"},
      {"seed = true", "run.toml:1:8: 'seed': expected an integer, got boolean true"},
      {"preview = 1", "run.toml:1:11: 'preview': expected true or false, got integer 1"},
      {"name = [1]", "run.toml:1:8: 'name': expected a string, got a list"},
      {"prediction = {}", "run.toml:1:14: 'prediction': expected a string, got a table"},
      {"optimizer = 3", "run.toml:1:13: 'optimizer': expected a table, got integer 3"},
      {"weights = 3", "run.toml:1:11: 'weights': expected a table, got integer 3"},
      {"name = 2020-01-02", "run.toml:1:8: 'name': expected a string, got date or time 2020-01-02"},
      {"max_steps = \"x\"", "run.toml:1:13: 'max_steps': expected an integer, got string \"x\""},
      {"weights.mse = \"x\"", "run.toml:1:15: 'weights.mse': expected a number, got string \"x\""},
      {"data.buckets = [512, \"x\"]",
       "run.toml:1:22: 'data.buckets.1': expected an integer, got string \"x\""},
  });
}

TEST(ProblemsTest, WrongTypeSaysWhatToWriteInstead) {
  expect_each({
      {"seed = 1e3", "run.toml:1:8: 'seed': expected an integer, got number 1000.0; write 1000"},
      {"seed = \"5\"",
       "run.toml:1:8: 'seed': expected an integer, got string \"5\"; write it without quotes"},
      {"preview = \"true\"",
       "run.toml:1:11: 'preview': expected true or false, got string \"true\"; write it without "
       "quotes"},
      {"name = 5", "run.toml:1:8: 'name': expected a string, got integer 5; write \"5\""},
      {"method.targets = \"unet\"",
       "run.toml:1:18: 'method.targets': expected a list, got string \"unet\"; write [\"unet\"]"},
      {"method = \"full\"",
       "run.toml:1:10: 'method': expected a table, got string \"full\"; write method.type = "
       "\"full\""},
      {"[data.sources]\nfolder = \"a\"",
       "run.toml:1:1: 'data.sources': expected a list, got a table; write [[data.sources]]"},
  });
}

TEST(ProblemsTest, OutOfRangeSaysTheBoundThatIsBroken) {
  expect_each({
      {"method.rank = 0", "run.toml:1:15: 'method.rank' is 0; expected at least 1"},
      {"method.rank = 2000", "run.toml:1:15: 'method.rank' is 2000; expected at most 1024"},
      {"optimizer.lr = 0", "run.toml:1:16: 'optimizer.lr' is 0; expected more than 0"},
      {"optimizer.lr = 1.5", "run.toml:1:16: 'optimizer.lr' is 1.5; expected at most 1"},
      {"optimizer.betas = [0.9, 1]",
       "run.toml:1:25: 'optimizer.betas.1' is 1; expected less than 1"},
      {"data.size = 8", "run.toml:1:13: 'data.size' is 8; expected at least 64 px"},
      {"max_steps = 0", "run.toml:1:13: 'max_steps' is 0; expected at least 1 steps"},
      {"weights.mse = -0.5", "run.toml:1:15: 'weights.mse' is -0.5; expected at least 0"},
      {"workers = 3", "run.toml:1:11: 'workers' is 3; expected one of 1, 2, 4"},
      {"optimizer.lr = nan", "run.toml:1:16: 'optimizer.lr' is nan; expected a number"},
      {"clip = inf", "no problem"},
  });
}

TEST(ProblemsTest, UnknownChoiceListsThemAll) {
  expect_each({
      {"prediction = \"epsilom\"",
       "run.toml:1:14: 'prediction' is \"epsilom\"; expected one of \"epsilon\", \"v\", "
       "\"sample\"; did you mean 'epsilon'?"},
      {"device = \"tpu9\"",
       "run.toml:1:10: 'device' is \"tpu9\"; expected one of \"cpu\", \"cuda\""},
  });
}

TEST(ProblemsTest, VariantNeedsAKnownType) {
  expect_each({
      {"[method]\ntype = \"lore\"\nanything = 1",
       "run.toml:2:8: 'method.type' is \"lore\"; expected one of \"full\", \"lora\"; did you mean "
       "'lora'?"},
      {"method.type = 1",
       "run.toml:1:15: 'method.type': expected a string, got integer 1; write \"1\""},
      {"[[stages]]\nrank = 1",
       "run.toml:1:1: missing 'stages.0.type'; expected one of \"full\", \"lora\""},
  });
}

struct Needy {
  std::string folder;
  example::Source source;
  template <class V>
  void fields(V& v) {
    v("folder", folder, "Where to write.").required();
    v("source", source, "Where to read.");
  }
};

TEST(ProblemsTest, RequiredFieldsAreMissedWhereTheyBelong) {
  EXPECT_EQ(
      problems_of("[data]\n[[data.sources]]\nrepeats = 1"),
      "run.toml:2:1: missing 'data.sources.0.folder'; expected a string: Folder of pictures.");
  EXPECT_EQ(problems_of<Needy>(""),
            "run.toml: missing 'folder'; expected a string: Where to write.\n"
            "run.toml: missing 'source.folder'; expected a string: Folder of pictures.");
  EXPECT_EQ(problems_of<Needy>("folder = \"a\"\n[source]\n"),
            "run.toml:2:2: missing 'source.folder'; expected a string: Folder of pictures.");
}

TEST(ProblemsTest, SyntaxErrorsAndDuplicatesHaveLineAndColumn) {
  expect_each({
      {"a = ", "run.toml:1:5: not valid TOML in key-value pair: encountered end-of-file"},
      {"[data\n", "run.toml:1:6: not valid TOML in table header: expected ']', saw '\\n'"},
      {"name = \"\xff\"", "run.toml:1:8: not valid TOML: Encountered invalid utf-8 sequence"},
      {"seed = 1\nname = \"a\"\nseed = 2",
       "run.toml:3:8: not valid TOML in key-value pair: cannot redefine existing integer 'seed'"},
      {"[data]\nsize = 64\n[data]\n",
       "run.toml:3:1: not valid TOML in table header: cannot redefine existing table 'data'"},
  });
}

TEST(ProblemsTest, AllProblemsComeAtOnceInTheOrderOfTheFile) {
  EXPECT_EQ(problems_of("seed = -1\nnmae = \"a\"\n[optimizer]\nlr = \"x\"\n[method]\nrank = 0\n"
                        "[data]\nsize = 1\n"),
            "run.toml:1:8: 'seed' is -1; expected at least 0\n"
            "run.toml:2:1: unknown key 'nmae'; did you mean 'name'?\n"
            "run.toml:4:6: 'optimizer.lr': expected a number, got string \"x\"\n"
            "run.toml:6:8: 'method.rank' is 0; expected at least 1\n"
            "run.toml:8:8: 'data.size' is 1; expected at least 64 px");
}

struct Twice {
  bool a = false;
  template <class V>
  void fields(V& v) {
    v("a", a, "");
    v("a", a, "");
  }
};

struct LimitedFlag {
  bool a = false;
  template <class V>
  void fields(V& v) {
    v("a", a, "").min(1);
  }
};

struct StuckText {
  std::optional<std::string> a = "x";
  template <class V>
  void fields(V& v) {
    v("a", a, "");
  }
};

template <class T>
ErrorCode code_of_schema() {
  try {
    schema_of<T>();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::io;
}

TEST(ProblemsTest, MistakesInStructsAreInternalErrors) {
  EXPECT_EQ(code_of_schema<Twice>(), ErrorCode::internal);
  EXPECT_EQ(code_of_schema<LimitedFlag>(), ErrorCode::internal);
  EXPECT_EQ(code_of_schema<StuckText>(), ErrorCode::internal);
}

}  // namespace
}  // namespace emulsion::config
