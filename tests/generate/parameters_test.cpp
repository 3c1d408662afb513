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
  EXPECT_EQ(to_text(infotext_of(request, 1, "tiny", {{"lora", "style", 0.8, 0.8}, {"lora", "b", 1, 0.5}})),
            "a (dog:1.2), \"big\" <lora:style:0.8> <lora:b:1:0.5>\nNegative prompt: blurry\nSteps: 12, Sampler: Euler, "
            "Schedule type: Karras, CFG scale: 6.5, Seed: 42, Size: 64x32, Model: tiny, RNG: Emulsion, Version: emulsion");
  request.negative.clear();
  EXPECT_EQ(to_text(infotext_of(request, 0, "tiny")).find("Negative"), std::string::npos);
}

TEST(ParametersTest, WhatIsNotTheDefaultIsSaid) {
  Request request = a_request();
  request.clip_skip = 2;
  request.cfg_rescale = 0.7;
  request.rng = NoiseSource::nv;
  request.prompt_syntax = PromptSyntax::plain;
  const Infotext text = infotext_of(request, 0, "a, b");
  const auto value = [&](const char* name) { return text.find(name) == nullptr ? "" : *text.find(name); };
  EXPECT_EQ(value("Clip skip"), "2");
  EXPECT_EQ(value("CFG rescale"), "0.7");
  EXPECT_EQ(value("RNG"), "NV");
  EXPECT_EQ(value("Prompt syntax"), "plain");
  EXPECT_EQ(parse_infotext(to_text(text)), text);
}

}  // namespace
}  // namespace emulsion::generate
