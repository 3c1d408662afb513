// What `emulsion train FOLDER --base MODEL` chooses.
#include <nlohmann/json.hpp>

#include "models/family.h"
#include "models/model.h"
#include "train/tiny_runs.h"
#include "train/train.h"
#include "weights/model_folder.h"

namespace emulsion::train {
namespace {

using test::expect_contains;

class BaseRunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_pictures(temp / "pictures", 10);
    weights::save_model_folder(temp / "small", models::new_model(models::tiny(models::find_family("sd1")), Rng(7)));
    // Made for 512 pixels, as its config says; nobody reads its weights here.
    std::filesystem::copy(temp / "small", temp / "large", std::filesystem::copy_options::recursive);
    auto config = nlohmann::json::parse(io::read_file(temp / "large/unet/config.json"));
    const auto vae = nlohmann::json::parse(io::read_file(temp / "large/vae/config.json"));
    config["sample_size"] = 512 >> (vae["block_out_channels"].size() - 1);
    io::write_file_atomic(temp / "large/unet/config.json", config.dump());
  }
  BaseRun wanted(const std::string& base, const std::string& method) {
    return {.pictures = temp / "pictures", .base = (temp / base).string(), .method = method};
  }
  RunConfig chosen(const BaseRun& run) {
    std::vector<std::string> reasons;
    RunConfig config = run_on_base(run, reasons);
    EXPECT_GE(reasons.size(), 5u);
    return config;
  }
  std::string refusal(const BaseRun& run) {
    return test::error_message([&] { chosen(run); });
  }
  test::TempFolder temp;
};

TEST_F(BaseRunTest, ALargeModelIsTrainedAsItIsUsual) {
  const RunConfig lora = chosen(wanted("large", "lora"));
  EXPECT_EQ(lora.name, "pictures-lora");
  EXPECT_EQ(lora.data.resolution, 512);
  EXPECT_TRUE(lora.data.buckets);
  EXPECT_EQ(lora.steps, 500);  // ten pictures, a hundred looks, two a step
  EXPECT_EQ(lora.batch_size, 2);
  EXPECT_DOUBLE_EQ(optim::learning_rate(lora.optimizer), 1e-4);
  const RunConfig full = chosen(wanted("large", "full"));
  EXPECT_TRUE(std::holds_alternative<optim::AdamW8bitConfig>(full.optimizer));
  EXPECT_TRUE(std::holds_alternative<DiffusionMethod>(full.method));
  EXPECT_TRUE(full.fused_backward_pass);
  EXPECT_NO_THROW(validate(full));
  EXPECT_TRUE(std::holds_alternative<HypernetworkMethod>(chosen(wanted("large", "hypernetwork")).method));
}

TEST_F(BaseRunTest, ASmallModelLearnsAtAHigherRateAndIsTrainedToTheEnd) {
  BaseRun run = wanted("small", "dreambooth");
  run.trigger = "zork thing";
  run.class_prompt = "thing";
  RunConfig config = chosen(run);
  EXPECT_DOUBLE_EQ(optim::learning_rate(config.optimizer), 2e-3);
  EXPECT_EQ(config.data.sources[0].trigger, "zork thing");
  ASSERT_EQ(config.priors.size(), 1u);
  EXPECT_EQ(config.priors[0].prompt, "thing");
  config.output = (temp / "runs").string();
  config.steps = 2;
  config.preview.every = 0;
  config.priors[0].count = 2;
  config.priors[0].steps = 1;
  Reporter silent;
  EXPECT_TRUE(std::filesystem::exists(run_training(config, silent).result));
}

TEST_F(BaseRunTest, TheNewWordIsTheTrigger) {
  BaseRun run = wanted("small", "textual-inversion");
  expect_contains(refusal(run), {"textual-inversion", "--trigger"});
  run.trigger = "zork";
  EXPECT_EQ(std::get<TextualInversionMethod>(chosen(run).method).token, "zork");
}

TEST_F(BaseRunTest, WhatIsMissingIsNamed) {
  expect_contains(refusal(wanted("small", "lorra")), {"lorra", "did you mean 'lora'", "hypernetwork"});
  BaseRun run = wanted("small", "dreambooth");
  run.trigger = "zork";
  expect_contains(refusal(run), {"dreambooth", "--class"});
  run = wanted("small", "lora");
  run.class_prompt = "thing";
  expect_contains(refusal(run), {"--class", "dreambooth"});
  expect_contains(refusal(wanted("nowhere", "lora")), {"nowhere"});
}

}  // namespace
}  // namespace emulsion::train
