// What `emulsion generate` is asked, from arguments and from pictures that say how they were drawn.
#include "generate_arguments.h"

#include <gtest/gtest.h>

#include "picture_file.h"
#include "support/support.h"

namespace emulsion::app {
namespace {

struct Notes : Reporter {
  void note(const std::string& text) override { notes.push_back(text); }
  std::vector<std::string> notes;
};

class GenerateArgumentsTest : public ::testing::Test {
 protected:
  GenerateArgumentsTest() { arguments.model = "model"; }
  std::string file(const std::string& name) const { return (folder / name).string(); }
  std::string write(const std::string& name, const std::string& infotext) const {
    write_picture(file(name), at::full({8, 8, 3}, 90, at::kByte), infotext);
    return file(name);
  }
  std::string refusal() {
    return test::error_message([&] { asked_by(arguments, notes); });
  }

  test::TempFolder folder;
  GenerateArguments arguments;
  Notes notes;
};

const char* kText =
    "a cat <lora:style:0.8>\nNegative prompt: blurry\nSteps: 12, Sampler: Euler, Schedule type: Karras, CFG scale: 6.5, Seed: "
    "42, Size: 64x32, Model: tiny, RNG: CPU, Hires upscale: 2, Version: emulsion";

TEST_F(GenerateArgumentsTest, EveryFormatBringsItsDrawingBack) {
  for (const char* name : {"a.png", "a.jpg", "a.webp"}) {
    arguments.from_image = write(name, kText);
    const Asked asked = asked_by(arguments, notes);
    EXPECT_EQ(asked.request.prompts, std::vector<std::string>{"a cat <lora:style:0.8>"}) << name;
    EXPECT_EQ(asked.request.negative, "blurry");
    EXPECT_EQ(asked.request.seed, 42);
    EXPECT_EQ(asked.request.width, 64);
    EXPECT_EQ(asked.request.rng, NoiseSource::cpu);
    ASSERT_EQ(notes.notes.size(), 1u);
    EXPECT_NE(notes.notes[0].find("Hires upscale: 2"), std::string::npos);
    notes.notes.clear();
  }
}

TEST_F(GenerateArgumentsTest, WhatIsGivenCountsMoreThanThePicture) {
  arguments.from_image = write("a.png", kText);
  arguments.prompts = {"a dog"};
  arguments.negative = "";
  arguments.seed = 1;
  arguments.size = "32x32";
  arguments.batch = 2;
  const Asked asked = asked_by(arguments, notes);
  EXPECT_EQ(asked.request.prompts, (std::vector<std::string>{"a dog", "a dog"}));
  EXPECT_EQ(asked.request.negative, "");
  EXPECT_EQ(asked.request.seed, 1);
  EXPECT_EQ(asked.request.height, 32);
  EXPECT_EQ(asked.request.steps, 12);
}

TEST_F(GenerateArgumentsTest, ALoraThatThePictureNamesIsNotAddedAgain) {
  arguments.from_image = write("a.png", kText);
  arguments.loras = {"some/style.safetensors:0.8", "some/other.safetensors:0.5"};
  const Asked asked = asked_by(arguments, notes);
  EXPECT_EQ(asked.networks, (std::vector<models::NetworkTag>{{"lora", "other", 0.5, 0.5}}));
  EXPECT_EQ(asked.files.find({"lora", "style"}), "some/style.safetensors");
  EXPECT_EQ(asked.networks_of(0).size(), 2u);
}

TEST_F(GenerateArgumentsTest, WhatIsMissingIsSaid) {
  EXPECT_NE(refusal().find("expected a prompt"), std::string::npos);
  arguments.from_image = write("silent.png", "");
  EXPECT_NE(refusal().find("silent.png"), std::string::npos);
  arguments.from_image = write("b.png", "a\nSteps: 4, Seed: 1, Denoising strength: 0.5, Version: emulsion");
  EXPECT_NE(refusal().find("--init-image"), std::string::npos);
  arguments.init_image = file("b.png");
  EXPECT_EQ(asked_by(arguments, notes).request.source.strength, 0.5);
  arguments.from_image = write("c.png", "a\nSteps: 4, Seed: 1, Mask: m.png, Version: emulsion");
  EXPECT_NE(refusal().find("--mask"), std::string::npos);
}

TEST_F(GenerateArgumentsTest, ContradictionsAreRefused) {
  arguments.prompts = {"a"};
  arguments.strength = 0;
  EXPECT_NE(refusal().find("--strength: expected above 0"), std::string::npos);
  arguments.strength.reset();
  arguments.mask = write("m.png", "");
  EXPECT_NE(refusal().find("--init-image"), std::string::npos);
  arguments.batch = 0;
  EXPECT_NE(refusal().find("--batch"), std::string::npos);
}

TEST_F(GenerateArgumentsTest, AMaskIsReadAsGrey) {
  arguments.prompts = {"a"};
  arguments.init_image = arguments.mask = write("m.png", "");
  const Asked asked = asked_by(arguments, notes);
  EXPECT_EQ(asked.request.source.mask.sizes(), (std::vector<int64_t>{8, 8}));
  EXPECT_EQ(asked.request.source.mask[3][3].item<int>(), 90);
  EXPECT_EQ(asked.request.source.mask_name, "m.png");
}

TEST_F(GenerateArgumentsTest, PicturesWithTheSameNetworksAreDrawnTogether) {
  arguments.prompts = {"a <lora:x>", "b <lora:x>", "c <lora:x:0.5>", "d"};
  Asked asked = asked_by(arguments, notes);
  asked.request.width = asked.request.height = 512;
  EXPECT_EQ(asked.drawn_together(0), 2u);
  EXPECT_EQ(asked.drawn_together(2), 1u);
  asked.request.width = 2048;
  EXPECT_EQ(asked.drawn_together(0), 2u);
  asked.request.height = 2048;
  EXPECT_EQ(asked.drawn_together(0), 1u);
  EXPECT_EQ(asked.texts(), (std::vector<std::string>{"", "a ", "b ", "c ", "d"}));
}

}  // namespace
}  // namespace emulsion::app
