// convert and verify, run as a user runs them, and their lines for programs.
#include <nlohmann/json.hpp>

#include "app/program.h"
#include "io/hash.h"
#include "io/safetensors.h"
#include "models/family.h"
#include "weights/model_folder.h"
#include "weights/single_file.h"

namespace emulsion {
namespace {

using nlohmann::json;
using test::emulsion, test::has, test::Output, test::TempFolder;

/// The lines of `result` as JSON, by the value of "event".
std::multimap<std::string, json> events_of(const Output& result) {
  std::multimap<std::string, json> events;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) {
    const json event = json::parse(line, nullptr, /*allow_exceptions=*/false);
    EXPECT_TRUE(event.is_object()) << line;
    if (event.is_object()) events.emplace(event.value("event", ""), event);
  }
  return events;
}

/// A tiny Stable Diffusion 1 in "model".
class ModelVerbTest : public ::testing::Test {
 protected:
  void SetUp() override {
    weights::save_model_folder(folder / "model", models::new_model(models::tiny(models::find_family("sd1")), Rng(7)));
  }
  Output run(const std::string& arguments) const { return emulsion(arguments, folder.path()); }
  TempFolder folder;
};

TEST_F(ModelVerbTest, ConvertSaysWhatItWroteAndBackAgainItIsTheSameModel) {
  const Output there = run("convert model one.safetensors --dtype float32");
  ASSERT_EQ(there.code, 0) << there.err;
  EXPECT_TRUE(has(there.out, "one.safetensors: unet, text_encoder, vae, ")) << there.out;
  const Output back = run("convert one.safetensors again");
  ASSERT_EQ(back.code, 0) << back.err;
  const auto file = "unet/diffusion_pytorch_model.safetensors";
  EXPECT_EQ(test::content(folder / "again" / file), test::content(folder / "model" / file));
}

TEST_F(ModelVerbTest, ConvertTellsProgramsDecisionsPartsAndResult) {
  ASSERT_EQ(run("convert model one.safetensors --dtype float16").code, 0);
  const Output result = run("convert one.safetensors again --component unet --component vae --json");
  ASSERT_EQ(result.code, 0) << result.err;
  const auto events = events_of(result);
  EXPECT_GE(events.count("decision"), 2u) << result.out;
  std::set<std::string> parts;
  for (auto [at, end] = events.equal_range("part"); at != end; ++at) {
    parts.insert(at->second["name"]);
    EXPECT_GT(at->second["numbers"], 100);
  }
  EXPECT_EQ(parts, (std::set<std::string>{"unet", "vae"}));
  ASSERT_EQ(events.count("result"), 1u);
  const json last = events.find("result")->second;
  EXPECT_EQ(last["path"], "again");
  EXPECT_EQ(last["layout"], "diffusers");
  EXPECT_EQ(last["dtype"], "stored");
  EXPECT_GT(last["bytes"], 1000);
}

TEST_F(ModelVerbTest, VerifyTellsProgramsHashesAndThatAllIsWell) {
  ASSERT_EQ(run("convert model one.safetensors --dtype float32").code, 0);
  const Output result = run("verify one.safetensors --json");
  ASSERT_EQ(result.code, 0) << result.err << result.out;
  const auto events = events_of(result);
  const json hashes = events.find("hashes")->second;
  const std::string sha256 = io::sha256_hex(test::content(folder / "one.safetensors"));
  EXPECT_EQ(hashes["sha256"], sha256);
  EXPECT_EQ(hashes["short_hash"], sha256.substr(0, 10));
  EXPECT_EQ(events.find("file")->second["format"], "safetensors");
  EXPECT_EQ(events.find("result")->second["wrong"], 0);
  for (auto [at, end] = events.equal_range("finding"); at != end; ++at) EXPECT_EQ(at->second["verdict"], "ok") << at->second;
}

TEST_F(ModelVerbTest, VerifyNamesWhatIsWrongToPeopleAndPrograms) {
  const auto file = folder / "model/unet/diffusion_pytorch_model.safetensors";
  NamedTensors tensors;
  for (const auto& [name, tensor] : io::SafetensorsFile::open(file).tensors()) {
    if (name == "conv_out.bias") continue;
    tensors.emplace_back(name, name == "conv_in.bias" ? tensor / 0 : tensor.clone());
  }
  io::write_safetensors(file, tensors);
  const Output people = run("verify model");
  EXPECT_EQ(people.code, 4) << people.err;
  EXPECT_TRUE(has(people.out, "WRONG  'conv_in.bias': ")) << people.out;
  EXPECT_TRUE(has(people.out, "1 missing: conv_out.bias")) << people.out;
  const Output programs = run("verify model --json");
  EXPECT_EQ(programs.code, 4) << programs.err;
  const auto events = events_of(programs);
  EXPECT_EQ(events.find("result")->second["wrong"], 2) << programs.out;
  EXPECT_EQ(events.find("error")->second["code"], "format");
  std::string wrong;
  for (auto [at, end] = events.equal_range("finding"); at != end; ++at) {
    if (at->second["verdict"] == "wrong") wrong += at->second["text"].get<std::string>() + "\n";
  }
  EXPECT_TRUE(has(wrong, "'conv_in.bias'") && has(wrong, "conv_out.bias")) << wrong;
}

TEST_F(ModelVerbTest, OutOfPlaceArgumentsAreRefused) {
  for (const char* arguments : {"convert model", "convert model model", "convert model out --layout ldm",
                                "convert model out.safetensors --layout diffusers", "convert model out --dtype int4"}) {
    const Output result = run(arguments);
    EXPECT_EQ(result.code, 2) << arguments << ": " << result.err;
  }
  EXPECT_EQ(run("verify nowhere --json").code, 6);
}

}  // namespace
}  // namespace emulsion
