// The program as a user meets it: run as a process, its output and exit code looked at.
#include "app/program.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "io/image.h"
#include "io/safetensors.h"

namespace emulsion {
namespace {

using nlohmann::json;
using test::emulsion, test::has, test::Output, test::TempFolder, test::write;

void write_picture(const std::filesystem::path& file, int64_t width, int64_t height) {
  io::write_png(file, at::full({height, width, 3}, 128, at::kByte));
}

constexpr const char* kRun = R"([method]
type = "autoencoder"
[[data.sources]]
path = "pictures"
)";

// --- Help ----------------------------------------------------------------------------------------

TEST(ProgramTest, WithoutArgumentsItGivesAShortOverview) {
  const Output result = emulsion("");
  EXPECT_EQ(result.code, 0);
  EXPECT_LE(std::count(result.out.begin(), result.out.end(), '\n'), 20);
  for (const char* verb :
       {"train", "generate", "data", "config", "inspect", "replay", "bench", "doctor", "sheet"}) {
    EXPECT_TRUE(has(result.out, std::string("emulsion ") + verb)) << verb;
  }
  EXPECT_EQ(emulsion("--help").out, result.out);
}

class HelpTest : public ::testing::TestWithParam<const char*> {};

TEST_P(HelpTest, FitsAScreenAndEndsWithAnExample) {
  const Output result = emulsion(std::string(GetParam()) + " --help");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_LE(std::count(result.out.begin(), result.out.end(), '\n'), 40);
  const size_t example = result.out.find("Example:\n  emulsion ");
  ASSERT_NE(example, std::string::npos) << result.out;
  const std::string rest = result.out.substr(example);
  EXPECT_LE(std::count(rest.begin(), rest.end(), '\n'), 4) << rest;
}

INSTANTIATE_TEST_SUITE_P(Verbs, HelpTest,
                         ::testing::Values("train", "generate", "data", "data check", "config",
                                           "config show", "config schema", "config explain",
                                           "inspect", "convert", "verify", "replay", "bench",
                                           "bench step", "bench generate", "bench load", "doctor",
                                           "sheet"));

TEST(ProgramTest, RareOptionsAreShownWhenAskedFor) {
  const Output usual = emulsion("generate --help"), more = emulsion("generate --help-more");
  EXPECT_EQ(more.code, 0) << more.err;
  for (const char* option : {"--vae-tiling", "--prompt-syntax", "--family"}) {
    EXPECT_FALSE(has(usual.out, option)) << option;
    EXPECT_TRUE(has(more.out, option)) << option;
  }
}

TEST(ProgramTest, SaysItsVersion) {
  const Output result = emulsion("--version");
  EXPECT_EQ(result.code, 0);
  EXPECT_TRUE(result.out.starts_with("emulsion ")) << result.out;
}

// --- Wrong arguments -----------------------------------------------------------------------------

TEST(ProgramTest, MisspeltWordsAreRecognised) {
  const std::pair<const char*, const char*> cases[] = {
      {"trian x", "'train'"},
      {"data chek x", "'check'"},
      {"train x.toml --dryrun", "'--dry-run'"},
      {"generate m p --step 3", "'--steps'"},
      {"config explain optimizer.lrr", "'optimizer.lr'"},
      {"bench step --model quikstart", "quickstart"},
  };
  for (const auto& [arguments, meant] : cases) {
    const Output result = emulsion(arguments);
    EXPECT_NE(result.code, 0) << arguments;
    EXPECT_TRUE(result.err.starts_with("error: ")) << result.err;
    EXPECT_TRUE(has(result.err, meant)) << result.err;
    EXPECT_EQ(result.out, "") << arguments;
  }
}

TEST(ProgramTest, MissingOrWrongValuesAreUsageErrors) {
  for (const char* arguments : {"train", "generate", "config", "config show", "inspect",
                                "replay a b", "generate m p --steps x", "generate m p --steps 0",
                                "generate m p --size 64", "bench step --dtype int4"}) {
    const Output result = emulsion(arguments);
    EXPECT_EQ(result.code, 2) << arguments << ": " << result.err;
    EXPECT_TRUE(result.err.starts_with("error: ")) << result.err;
    EXPECT_TRUE(has(result.err, "hint: ") || has(result.err, "expected")) << result.err;
  }
}

TEST(ProgramTest, WhatIsNotThereIsNotFound) {
  for (const char* arguments : {"train nowhere", "train nowhere.toml", "generate nowhere p",
                                "inspect nowhere", "data check nowhere"}) {
    const Output result = emulsion(arguments);
    EXPECT_EQ(result.code, 6) << arguments << ": " << result.err;
    EXPECT_TRUE(has(result.err, "nowhere")) << result.err;
  }
}

// --- Run files -----------------------------------------------------------------------------------

TEST(ProgramTest, AllProblemsOfARunFileComeAtOnceWithTheirPlaces) {
  const TempFolder folder;
  write(folder / "run.toml", std::string("stepz = 3\nbatch_size = \"four\"\nseed = -1\n") + kRun);
  const Output result = emulsion("train run.toml", folder.path());
  EXPECT_EQ(result.code, 2);
  EXPECT_TRUE(has(result.err, "run.toml:1:1: ")) << result.err;
  EXPECT_TRUE(has(result.err, "did you mean 'steps'?")) << result.err;
  EXPECT_TRUE(has(result.err, "run.toml:2:")) << result.err;
  EXPECT_TRUE(has(result.err, "run.toml:3:")) << result.err;
  EXPECT_FALSE(std::filesystem::exists(folder / "runs"));
}

TEST(ProgramTest, TheEffectiveConfigCanBeReadBack) {
  const TempFolder folder;
  write(folder / "run.toml", kRun);
  const Output first =
      emulsion("config show run.toml --set steps=77 --set optimizer.lr=3e-5", folder.path());
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_TRUE(has(first.out, "steps = 77")) << first.out;
  write(folder / "again.toml", first.out);
  EXPECT_EQ(emulsion("config show again.toml", folder.path()).out, first.out);
}

TEST(ProgramTest, AWrongOverrideNamesTheArgument) {
  const TempFolder folder;
  write(folder / "run.toml", kRun);
  const Output result = emulsion("train run.toml --set optimizer.lrr=1", folder.path());
  EXPECT_EQ(result.code, 2);
  EXPECT_TRUE(has(result.err, "--set optimizer.lrr")) << result.err;
}

TEST(ProgramTest, TheSchemaIsJsonSchema) {
  const Output result = emulsion("config schema");
  const json schema = json::parse(result.out);
  EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_TRUE(schema["properties"].contains("optimizer"));
}

TEST(ProgramTest, AKeyIsExplained) {
  const Output result = emulsion("config explain batch_size");
  EXPECT_TRUE(has(result.out, "integer")) << result.out;
  EXPECT_TRUE(has(result.out, "at least 1")) << result.out;
  EXPECT_TRUE(has(emulsion("config explain optimizer").out, "optimizer(adamw).lr"));
}

// --- Data ----------------------------------------------------------------------------------------

TEST(ProgramTest, AFolderOfPicturesIsReported) {
  const TempFolder folder;
  write_picture(folder / "cat.png", 96, 64);
  write_picture(folder / "dog.png", 64, 64);
  write(folder / "dog.txt", "a dog");
  write(folder / "broken.png", "nothing of the kind");
  const Output result = emulsion("data check . --resolution 64", folder.path());
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(has(result.out, "2 png")) << result.out;
  EXPECT_TRUE(has(result.out, "1 sidecar")) << result.out;
  EXPECT_TRUE(has(result.out, "64 x 64")) << result.out;
  EXPECT_TRUE(has(result.out, "Problems (1)")) << result.out;
  EXPECT_TRUE(has(result.out, "broken.png")) << result.out;
}

TEST(ProgramTest, AFolderReportIsAlsoJson) {
  const TempFolder folder;
  write_picture(folder / "cat.png", 96, 64);
  const Output result = emulsion("data check . --json", folder.path());
  ASSERT_TRUE(result.out.starts_with(R"({"event":"begin","phase":"Checking pictures")")) << result.out;
  const json line = json::parse(result.out.substr(result.out.rfind("\n{") + 1));
  EXPECT_EQ(line["event"], "result");
  EXPECT_EQ(line["pictures"], 1);
  EXPECT_EQ(line["smaller_than_resolution"], 1);
}

TEST(ProgramTest, AFolderWithoutPicturesSaysWhatWasFound) {
  const TempFolder folder;
  write(folder / "notes.md", "hello");
  const Output result = emulsion("data check .", folder.path());
  EXPECT_EQ(result.code, 6) << result.err;
  EXPECT_TRUE(result.err.starts_with("error: ")) << result.err;
}

// --- Inspect -------------------------------------------------------------------------------------

TEST(ProgramTest, ASafetensorsFileIsDescribed) {
  const TempFolder folder;
  io::write_safetensors(folder / "a.safetensors",
                        {{"lora_unet_x.lora_down.weight", at::ones({2, 3})},
                         {"lora_unet_x.lora_up.weight", at::ones({4, 2})},
                         {"lora_unet_x.alpha", at::scalar_tensor(2.0, at::kFloat)}},
                        {{"ss_network_dim", "2"}});
  const Output all = emulsion("inspect a.safetensors", folder.path());
  EXPECT_EQ(all.code, 0) << all.err;
  EXPECT_TRUE(all.out.starts_with("LoRA, kohya's names\n3 tensors, 15 numbers, Float")) << all.out;
  EXPECT_TRUE(has(all.out, "ss_network_dim  2")) << all.out;
  EXPECT_TRUE(has(all.out, "[4, 2]")) << all.out;
  const Output some = emulsion("inspect a.safetensors --keys '*up*'", folder.path());
  EXPECT_TRUE(has(some.out, "lora_up")) << some.out;
  EXPECT_FALSE(has(some.out, "lora_down")) << some.out;
  EXPECT_EQ(emulsion("inspect a.safetensors --keys 'zzz'", folder.path()).code, 6);
}

TEST(ProgramTest, ADamagedFileIsAFormatError) {
  const TempFolder folder;
  write(folder / "a.safetensors", "not this");
  const Output result = emulsion("inspect a.safetensors --json", folder.path());
  EXPECT_EQ(result.code, 2) << "inspect has no --json";
  EXPECT_EQ(emulsion("inspect a.safetensors", folder.path()).code, 4);
}

TEST(ProgramTest, APictureShowsSizeAndParameters) {
  const TempFolder folder;
  io::write_png(folder / "a.png", at::zeros({8, 16, 3}, at::kByte),
                {{"parameters", "a cat\nSteps: 20"}});
  const Output result = emulsion("inspect a.png", folder.path());
  EXPECT_TRUE(has(result.out, "png, 16 x 8 pixels")) << result.out;
  EXPECT_TRUE(has(result.out, "parameters:\na cat\nSteps: 20")) << result.out;
}

// --- Machine -------------------------------------------------------------------------------------

TEST(ProgramTest, DoctorMeasuresAndExplains) {
  const Output result = emulsion("doctor");
  EXPECT_EQ(result.code, 0) << result.err;
  for (const char* word :
       {"processor", "GFLOP/s", "memory", "disk", "LibTorch", "oneDNN", "CUDA"}) {
    EXPECT_TRUE(has(result.out, word)) << word;
  }
  EXPECT_TRUE(has(result.out, "\n- ")) << result.out;
}

TEST(ProgramTest, AFailureIsAnEventForPrograms) {
  const Output result = emulsion("data check nowhere --json");
  EXPECT_EQ(result.code, 6);
  const json line = json::parse(result.out);
  EXPECT_EQ(line["event"], "error");
  EXPECT_EQ(line["code"], "not_found");
}

}  // namespace
}  // namespace emulsion
