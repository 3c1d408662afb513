#include "config/explain.h"

#include <gtest/gtest.h>

#include "config/config.h"
#include "config/example.h"
#include "core/error.h"

namespace emulsion::config {
namespace {

using example::RunFile;

TEST(ExplainTest, ListsEveryFieldFlat) {
  std::vector<std::string> paths;
  for (const FieldInfo& info : list_fields<RunFile>()) paths.push_back(info.path);
  EXPECT_EQ(paths, (std::vector<std::string>{"name",
                                             "seed",
                                             "workers",
                                             "preview",
                                             "device",
                                             "max_steps",
                                             "clip",
                                             "resume_from",
                                             "prediction",
                                             "optimizer.lr",
                                             "optimizer.weight_decay",
                                             "optimizer.betas",
                                             "method.type",
                                             "method(full).train_text",
                                             "method(lora).rank",
                                             "method(lora).alpha",
                                             "method(lora).targets",
                                             "data.size",
                                             "data.sources[].folder",
                                             "data.sources[].repeats",
                                             "data.buckets",
                                             "weights",
                                             "extra.<name>.folder",
                                             "extra.<name>.repeats",
                                             "validation.every",
                                             "stages[].type",
                                             "stages[](full).train_text",
                                             "stages[](lora).rank",
                                             "stages[](lora).alpha",
                                             "stages[](lora).targets"}));
}

TEST(ExplainTest, SaysTypeMeaningDefaultRangeAndUnit) {
  const FieldInfo size = explain<RunFile>("data.size");
  EXPECT_EQ(size.path, "data.size");
  EXPECT_EQ(size.type, "integer");
  EXPECT_EQ(size.doc, "Side of the picture.");
  EXPECT_EQ(size.default_value, "512");
  EXPECT_EQ(size.range, "64 to 4096");
  EXPECT_EQ(size.unit, "px");
  EXPECT_FALSE(size.required);
  const FieldInfo lr = explain<RunFile>("optimizer.lr");
  EXPECT_EQ(lr.range, "more than 0, at most 1");
  EXPECT_EQ(lr.doc, "Learning rate. Typical: 1e-4 for LoRA.");
  EXPECT_EQ(lr.default_value, "0.0001");
}

TEST(ExplainTest, SaysTheTypesOfListsMapsAndOptionals) {
  EXPECT_EQ(explain<RunFile>("optimizer.betas").type, "list of numbers");
  EXPECT_EQ(explain<RunFile>("weights").type, "table of numbers by name");
  EXPECT_EQ(explain<RunFile>("max_steps").type, "integer, may be unset");
  EXPECT_EQ(explain<RunFile>("max_steps").default_value, "not set");
  EXPECT_EQ(explain<RunFile>("data.sources").type, "list of tables");
  EXPECT_EQ(explain<RunFile>("prediction").choices,
            (std::vector<std::string>{"epsilon", "v", "sample"}));
  EXPECT_TRUE(explain<RunFile>("data.sources.folder").required);
  EXPECT_EQ(explain<RunFile>("data.sources.folder").default_value, "");
}

TEST(ExplainTest, TakesPathsAsTheFileHasThem) {
  EXPECT_EQ(explain<RunFile>("data.sources.0.repeats").path, "data.sources[].repeats");
  EXPECT_EQ(explain<RunFile>("data.sources[].repeats").path, "data.sources[].repeats");
  EXPECT_EQ(explain<RunFile>("extra.third.folder").path, "extra.<name>.folder");
  EXPECT_EQ(explain<RunFile>("stages.2.rank").path, "stages[](lora).rank");
  EXPECT_EQ(explain<RunFile>("optimizer").doc, "The optimizer.");
}

TEST(ExplainTest, FindsFieldsOfAlternatives) {
  EXPECT_EQ(explain<RunFile>("method.rank").path, "method(lora).rank");
  EXPECT_EQ(explain<RunFile>("method.rank").default_value, "8");
  EXPECT_EQ(explain<RunFile>("method(full).train_text").path, "method(full).train_text");
  const FieldInfo type = explain<RunFile>("method.type");
  EXPECT_EQ(type.choices, (std::vector<std::string>{"full", "lora"}));
  EXPECT_EQ(type.default_value, "\"lora\"");
  EXPECT_NE(type.doc.find("lora: Low-rank update."), std::string::npos) << type.doc;
}

std::string refusal(std::string_view path) {
  try {
    explain<RunFile>(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
    return error.what();
  }
  return "no refusal";
}

TEST(ExplainTest, AnUnknownPathNamesTheClosest) {
  EXPECT_EQ(refusal("optimizer.wieght_decay"),
            "unknown key 'optimizer.wieght_decay'; did you mean 'optimizer.weight_decay'?");
  EXPECT_EQ(refusal("lr"), "unknown key 'lr'; did you mean 'optimizer.lr'?");
  EXPECT_EQ(refusal("method(full).rank"),
            "unknown key 'method(full).rank'; did you mean 'method(lora).rank'?");
  EXPECT_EQ(refusal("nothing.like.this"), "unknown key 'nothing.like.this'");
}

}  // namespace
}  // namespace emulsion::config
