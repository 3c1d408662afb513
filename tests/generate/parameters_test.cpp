// What a picture says of itself.
#include "generate/parameters.h"

#include "support/support.h"

namespace emulsion::generate {
namespace {

Request a_request() {
  Request request;
  request.prompts = {"a cat", "a (dog:1.2), \"big\""};
  request.negative = "blurry";
  request.seed = 41;
  request.steps = 12;
  request.cfg = 6.5;
  request.sampler = "euler";
  request.schedule = "karras";
  request.width = 64;
  request.height = 32;
  return request;
}

TEST(ParametersTest, ReadLikeThoseOfOtherPrograms) {
  Request request = a_request();
  EXPECT_EQ(to_text(infotext_of(request, 1, {"tiny", "0123456789", {{"style", "0123456789ab"}, {"b", "ba9876543210"}}, {{"word", "aaaaaaaaaaaa"}}}, {{"lora", "style", 0.8, 0.8}, {"lora", "b", 1, 0.5}})),
            "a (dog:1.2), \"big\" <lora:style:0.8> <lora:b:1:0.5>\nNegative prompt: blurry\nSteps: 12, Sampler: Euler, "
            "Schedule type: Karras, CFG scale: 6.5, Seed: 42, Size: 64x32, Model hash: 0123456789, Model: tiny, RNG: Emulsion, "
            "Lora hashes: \"style: 0123456789ab, b: ba9876543210\", TI hashes: \"word: aaaaaaaaaaaa\", Version: emulsion");
  request.negative.clear();
  EXPECT_EQ(to_text(infotext_of(request, 0, {.model = "tiny"})).find("Negative"), std::string::npos);
}

TEST(ParametersTest, WhatIsNotTheDefaultIsSaid) {
  Request request = a_request();
  request.clip_skip = 2;
  request.cfg_rescale = 0.7;
  request.rng = NoiseSource::nv;
  request.prompt_syntax = PromptSyntax::plain;
  const Infotext text = infotext_of(request, 0, {.model = "a, b"});
  const auto value = [&](const char* name) { return text.find(name) == nullptr ? "" : *text.find(name); };
  EXPECT_EQ(value("Clip skip"), "2");
  EXPECT_EQ(value("CFG rescale"), "0.7");
  EXPECT_EQ(value("RNG"), "NV");
  EXPECT_EQ(value("Prompt syntax"), "plain");
  EXPECT_EQ(parse_infotext(to_text(text)), text);
}

TEST(ParametersTest, ADrawingComesBackFromItsText) {
  Request request = a_request();
  for (const PromptSyntax syntax : {PromptSyntax::weighted, PromptSyntax::plain}) {
    for (const NoiseSource rng : {NoiseSource::emulsion, NoiseSource::cpu, NoiseSource::nv}) {
      request.prompt_syntax = syntax;
      request.rng = rng;
      request.clip_skip = 1;
      request.cfg_rescale = 0.25;
      request.source = {.picture = at::zeros({4, 4, 3}, at::kByte), .mask = at::zeros({4, 4}, at::kByte), .strength = 0.4};
      const std::vector<models::NetworkTag> networks = {{"lora", "style", 0.8, 0.8}, {"lora", "b", 1, 0.5}};
      const Described read = describe(parse_infotext(to_text(infotext_of(request, 1, {.model = "tiny"}, networks))));
      const bool plain = syntax == PromptSyntax::plain;
      EXPECT_EQ(read.request.prompts.at(0), request.prompts[1] + (plain ? "" : " <lora:style:0.8> <lora:b:1:0.5>"));
      EXPECT_EQ(read.networks, plain ? networks : std::vector<models::NetworkTag>());
      EXPECT_EQ(read.request.negative, "blurry");
      EXPECT_EQ(read.request.seed, 42);
      EXPECT_EQ(read.request.steps, 12);
      EXPECT_EQ(read.request.cfg, 6.5);
      EXPECT_EQ(read.request.cfg_rescale, 0.25);
      EXPECT_EQ(read.request.sampler, "euler");
      EXPECT_EQ(read.request.schedule, "karras");
      EXPECT_EQ(read.request.width, 64);
      EXPECT_EQ(read.request.height, 32);
      EXPECT_EQ(read.request.rng, rng);
      EXPECT_EQ(read.request.clip_skip, 1);
      EXPECT_EQ(read.strength, 0.4);
      EXPECT_TRUE(read.masked);
      EXPECT_TRUE(read.left_out.empty()) << read.left_out.front();
    }
  }
}

TEST(ParametersTest, AWebUisTextIsReadWithItsMeaning) {
  const Described read = describe(parse_infotext(
      "a castle <lora:castle:0.8>\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 12345, "
      "Size: 512x768, Model hash: abc123def0, Model: x, Clip skip: 2, Hires upscale: 2, Lora hashes: \"castle: ab\", Version: "
      "v1.6.0"));
  EXPECT_EQ(read.request.sampler, "dpmpp_2m");
  EXPECT_EQ(read.request.schedule, "karras");
  EXPECT_EQ(read.request.rng, NoiseSource::nv);
  EXPECT_EQ(read.request.clip_skip, 2);
  EXPECT_EQ(read.strength, 0);
  EXPECT_FALSE(read.masked);
  EXPECT_EQ(read.left_out, std::vector<std::string>{"Hires upscale: 2"});
}

TEST(ParametersTest, WhatCannotBeReadIsNamed) {
  const auto message = [](const std::string& settings) {
    return test::error_message([&] { describe(parse_infotext("a\nSeed: 1, Version: x, " + settings)); });
  };
  EXPECT_NE(message("Steps: many").find("Steps: expected a number, got 'many'"), std::string::npos);
  EXPECT_NE(message("Size: big").find("Size"), std::string::npos);
  EXPECT_NE(message("RNG: dice").find("'dice'"), std::string::npos);
  EXPECT_NE(message("Sampler: eularr").find("eularr"), std::string::npos);
}

}  // namespace
}  // namespace emulsion::generate
