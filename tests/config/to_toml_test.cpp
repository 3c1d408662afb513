#include <gtest/gtest.h>

#include <limits>

#include "config/config.h"
#include "config/example.h"

namespace emulsion::config {
namespace {

using example::Full;
using example::Lora;
using example::Prediction;
using example::RunFile;

struct Inner {
  std::optional<double> limit;
  template <class V>
  void fields(V& v) {
    v("limit", limit, "Upper limit.").min(0).unit("s");
  }
};

struct Small {
  Inner inner;
  std::string text = "a\"b";
  std::vector<double> numbers = {1, 0.1};
  std::optional<double> clip = 1.0;
  std::variant<Full, Lora> method;
  std::map<std::string, int64_t> weights = {{"b c", 2}, {"a", 1}};
  std::vector<Inner> list;
  Prediction prediction = Prediction::v;

  template <class V>
  void fields(V& v) {
    v("inner", inner, "A table.");
    v("text", text, "Some text.");
    v("numbers", numbers, "Some numbers.").above(0).max(2.5);
    v("clip", clip, "Largest norm.");
    v("method", method, "How.");
    v("weights", weights, "By name.");
    v("list", list, "Many.");
    v("prediction", prediction,
      "What the network predicts, in so many words that the remark cannot stand at the end.");
  }
};

TEST(ToTomlTest, WritesEveryFieldWithItsDocumentation) {
  Small small;
  small.clip.reset();
  EXPECT_EQ(to_toml(small), R"(text = "a\"b"  # Some text.
numbers = [1.0, 0.1]  # Some numbers. (more than 0, at most 2.5)
clip = "none"  # Largest norm.
list = []  # Many.
# What the network predicts, in so many words that the remark cannot stand at the end. (epsilon, v,
# sample)
prediction = "v"

# A table.
[inner]
# limit = <number>  # Upper limit. (at least 0 s)

# How.
[method]
type = "full"  # One of full, lora; each has fields of its own.
train_text = false  # Trains the text encoder too.

# By name.
[weights]
a = 1
"b c" = 2
)");
}

TEST(ToTomlTest, WritesListsOfStructsAsArraysOfTables) {
  Small small;
  small.list = {{.limit = 1}, {}};
  const std::string text = to_toml(small);
  EXPECT_NE(
      text.find("\n# Many.\n[[list]]\nlimit = 1.0  # Upper limit. (at least 0 s)\n\n[[list]]\n"
                "# limit = <number>"),
      std::string::npos)
      << text;
}

RunFile unusual_run() {
  RunFile run;
  run.name = "quote \" backslash \\ tab \t newline \n control \x02 é 表";
  run.seed = std::numeric_limits<int64_t>::max();
  run.max_steps = 12;
  run.clip.reset();
  run.resume_from = "";
  run.prediction = Prediction::sample;
  run.optimizer.lr = 0.1 + 0.2;
  run.optimizer.weight_decay = 5e-324;
  run.optimizer.betas = {1.0 / 3.0, 0, 0.99999999999999989};
  run.method = Full{.train_text = true};
  run.data.sources = {{"a", 1}, {"b\"", 2}};
  run.data.buckets = {};
  run.weights = {{"a.b", 1e300}, {"", 0}, {"plain", 2}};
  run.extra = {{"x y", {"folder", 4}}};
  run.validation = example::Validation{.every = 9};
  run.stages = {Lora{.rank = 3, .alpha = 0.5, .targets = {}}, Full{}};
  return run;
}

TEST(ToTomlTest, ReadsBackExactly) {
  for (const RunFile& run : {RunFile{}, unusual_run()}) {
    const RunFile back = from_toml<RunFile>(to_toml(run), "run.toml");
    EXPECT_EQ(diff(run, back), "");
    EXPECT_EQ(to_toml(back), to_toml(run));
    EXPECT_EQ(back.optimizer.lr, run.optimizer.lr);
    EXPECT_EQ(back.optimizer.betas, run.optimizer.betas);
    EXPECT_EQ(back.name, run.name);
    EXPECT_EQ(back.weights, run.weights);
    EXPECT_EQ(back.clip, run.clip);
    EXPECT_EQ(back.max_steps, run.max_steps);
    EXPECT_EQ(back.resume_from, run.resume_from);
    EXPECT_EQ(back.validation.has_value(), run.validation.has_value());
    EXPECT_EQ(back.method.index(), run.method.index());
    EXPECT_EQ(back.stages.size(), run.stages.size());
  }
}

TEST(ToTomlTest, KeepsInfinity) {
  RunFile run;
  run.clip = std::numeric_limits<double>::infinity();
  EXPECT_EQ(from_toml<RunFile>(to_toml(run), "run.toml").clip, run.clip);
}

TEST(DiffTest, EqualConfigsDifferNowhere) { EXPECT_EQ(diff(unusual_run(), unusual_run()), ""); }

TEST(DiffTest, ListsTheFieldsThatDiffer) {
  RunFile a;
  RunFile b;
  a.data.sources = {{"x", 1}};
  b.data.sources = {{"x", 5}};
  b.optimizer.lr = 1e-5;
  b.max_steps = 10;
  b.method = Full{};
  b.weights = {{"l1", 2}};
  b.data.buckets = {512};
  b.prediction = Prediction::v;
  EXPECT_EQ(diff(a, b),
            "max_steps: not set -> 10\n"
            "prediction: \"epsilon\" -> \"v\"\n"
            "optimizer.lr: 0.0001 -> 1e-05\n"
            "method.type: \"lora\" -> \"full\"\n"
            "data.sources.0.repeats: 1 -> 5\n"
            "data.buckets: [512, 768] -> [512]\n"
            "weights.mse: 1.0 -> not set\n"
            "weights.l1: not set -> 2.0\n");
}

TEST(DiffTest, ShowsListsOfDifferentLengthWhole) {
  RunFile a;
  RunFile b;
  b.data.sources = {{"x", 1}};
  EXPECT_EQ(diff(a, b), "data.sources: [] -> [{ folder = \"x\", repeats = 1 }]\n");
}

}  // namespace
}  // namespace emulsion::config
