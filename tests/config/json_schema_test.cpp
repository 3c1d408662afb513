#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "config/config.h"
#include "config/example.h"

namespace emulsion::config {
namespace {

using Json = nlohmann::json;

Json schema() { return Json::parse(json_schema<example::RunFile>()); }

TEST(JsonSchemaTest, TheRootIsAClosedObjectOfDraft202012) {
  const Json root = schema();
  EXPECT_EQ(root["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(root["type"], "object");
  EXPECT_EQ(root["additionalProperties"], false);
  EXPECT_EQ(root["properties"].size(), 16u);
}

TEST(JsonSchemaTest, ScalarsCarryTypeDefaultDescriptionAndLimits) {
  const Json optimizer = schema()["properties"]["optimizer"];
  EXPECT_EQ(optimizer["properties"]["lr"], Json::parse(R"({
      "type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1e-4,
      "description": "Learning rate. Typical: 1e-4 for LoRA."})"));
  EXPECT_EQ(optimizer["properties"]["betas"], Json::parse(R"({
      "type": "array", "items": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
      "default": [0.9, 0.999], "description": "Decay of the moments."})"));
  EXPECT_EQ(schema()["properties"]["data"]["properties"]["size"], Json::parse(R"({
      "type": "integer", "minimum": 64, "maximum": 4096, "x-unit": "px", "default": 512,
      "description": "Side of the picture."})"));
  EXPECT_EQ(schema()["properties"]["workers"]["enum"], Json::parse("[1, 2, 4]"));
}

TEST(JsonSchemaTest, ChoicesAreAnEnum) {
  EXPECT_EQ(schema()["properties"]["prediction"], Json::parse(R"({
      "type": "string", "enum": ["epsilon", "v", "sample"], "default": "epsilon",
      "description": "What the network predicts."})"));
}

TEST(JsonSchemaTest, OptionalsMayBeNone) {
  EXPECT_EQ(schema()["properties"]["max_steps"], Json::parse(R"({
      "anyOf": [{"type": "integer", "minimum": 1, "x-unit": "steps"}, {"const": "none"}],
      "description": "Stops here."})"));
  EXPECT_EQ(schema()["properties"]["resume_from"], Json::parse(R"({
      "type": "string", "description": "Checkpoint to start from."})"));
}

TEST(JsonSchemaTest, VariantsAreOneOfWithAConstantType) {
  const Json method = schema()["properties"]["method"];
  ASSERT_EQ(method["oneOf"].size(), 2u);
  const Json full = method["oneOf"][0];
  const Json lora = method["oneOf"][1];
  EXPECT_EQ(full["properties"]["type"], Json::parse(R"({"const": "full"})"));
  EXPECT_EQ(full["required"], Json::parse(R"(["type"])"));
  EXPECT_EQ(full["additionalProperties"], false);
  // The default alternative is what a table without a type means.
  EXPECT_EQ(lora["properties"]["type"], Json::parse(R"({"const": "lora", "default": "lora"})"));
  EXPECT_EQ(lora["required"], Json::array());
  EXPECT_EQ(lora["properties"]["rank"]["default"], 8);
  EXPECT_EQ(lora["description"], "Low-rank update.");
  // In a list every element must say what it is.
  EXPECT_EQ(schema()["properties"]["stages"]["items"]["oneOf"][0]["required"],
            Json::parse(R"(["type"])"));
}

TEST(JsonSchemaTest, ListsAndMapsDescribeTheirElements) {
  const Json source = schema()["properties"]["data"]["properties"]["sources"]["items"];
  EXPECT_EQ(source["required"], Json::parse(R"(["folder"])"));
  EXPECT_FALSE(source["properties"]["folder"].contains("default"));
  EXPECT_EQ(schema()["properties"]["weights"]["additionalProperties"],
            Json::parse(R"({"type": "number", "minimum": 0})"));
  EXPECT_EQ(schema()["properties"]["extra"]["additionalProperties"], source);
}

}  // namespace
}  // namespace emulsion::config
