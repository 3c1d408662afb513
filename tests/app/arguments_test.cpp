#include "arguments.h"

#include <gtest/gtest.h>

#include "machine.h"
#include "support/support.h"

namespace emulsion::app {
namespace {

TEST(ArgumentsTest, ALoraMayCarryItsWeight) {
  using Pair = std::pair<std::string, double>;
  EXPECT_EQ(file_and_weight("a.safetensors"), Pair("a.safetensors", 1));
  EXPECT_EQ(file_and_weight("a.safetensors:0.75"), Pair("a.safetensors", 0.75));
  EXPECT_EQ(file_and_weight("a.safetensors:-1"), Pair("a.safetensors", -1));
  EXPECT_EQ(file_and_weight("odd:name"), Pair("odd:name", 1));
  EXPECT_EQ(file_and_weight("a:1x"), Pair("a:1x", 1));
}

TEST(ArgumentsTest, ASizeIsWidthTimesHeight) {
  EXPECT_EQ(parse_size("64x48").width, 64);
  EXPECT_EQ(parse_size("64x48").height, 48);
  for (const char* wrong : {"", "64", "64x", "x64", "64x64x", "0x64", "64x-8"}) {
    EXPECT_NE(test::error_message([&] { parse_size(wrong); }).find("64x64"), std::string::npos)
        << wrong;
  }
}

TEST(ArgumentsTest, APromptBecomesAFileName) {
  EXPECT_EQ(slug("A red apple!"), "A-red-apple");
  EXPECT_EQ(slug("../etc/passwd"), "etc-passwd");
  EXPECT_EQ(slug("日本"), "picture");
}

TEST(ArgumentsTest, PicturesAreNamedAfterPromptAndSeedOrNumbered) {
  generate::Request request;
  request.prompts = {"a cat", "a dog"};
  request.seed = 7;
  EXPECT_EQ(output_path("out", request, 1), "out/a-dog-8.png");
  EXPECT_EQ(output_path("out/x.png", request, 0), "out/x-1.png");
  EXPECT_EQ(output_path("out/x.png", request, 1), "out/x-2.png");
  request.prompts = {"a cat"};
  EXPECT_EQ(output_path("out/x.png", request, 0), "out/x.png");
  EXPECT_EQ(grid_path("out/x.png", request), "out/x-grid.png");
  EXPECT_EQ(output_path("out/x.JPG", request, 0), "out/x.JPG");
  EXPECT_EQ(grid_path("out/x.webp", request), "out/x-grid.webp");
  request.prompts = {"a cat <lora:style:0.8>", "b"};
  EXPECT_EQ(output_path("out", request, 0), "out/a-cat-7.png");
  EXPECT_EQ(output_path("out/x.webp", request, 1), "out/x-2.webp");
  EXPECT_EQ(grid_path("out", request), "out/grid-7.png");
}

bool any_speaks_of(const std::vector<std::string>& texts, const std::string& word) {
  return std::any_of(texts.begin(), texts.end(),
                     [&](const auto& text) { return text.find(word) != text.npos; });
}

TEST(MachineTest, SlowBfloat16IsWarnedOf) {
  Machine machine;
  machine.features = "AVX2";
  machine.threads = 2;
  machine.memory_left = machine.disk_left = int64_t{1} << 40;
  machine.float32 = 100;
  machine.bfloat16 = 2;
  EXPECT_TRUE(any_speaks_of(findings(machine), "50 times slower"));
  machine.bfloat16 = 200;
  EXPECT_FALSE(any_speaks_of(findings(machine), "slower than float32"));
  EXPECT_TRUE(any_speaks_of(findings(machine), "2.0 times as fast"));
}

TEST(MachineTest, WhatIsScarceIsNamed) {
  Machine machine;
  machine.threads = 1;
  machine.load = 3;
  machine.memory_left = machine.disk_left = int64_t{1} << 30;
  machine.float32 = machine.bfloat16 = 100;
  for (const char* word : {"AVX2", "busy", "one core", "of memory", "of disk"}) {
    EXPECT_TRUE(any_speaks_of(findings(machine), word)) << word;
  }
}

}  // namespace
}  // namespace emulsion::app
