// Run files: what is refused and how, and that every run file of the project loads.
#include "train/config.h"

#include "core/error.h"
#include "train/tiny_runs.h"

namespace emulsion::train {
namespace {

using test::expect_contains;

std::string refusal(const std::function<void(RunConfig&)>& change) {
  RunConfig config = test::tiny_run("folder");
  change(config);
  return test::error_message([&] { validate(config); });
}

TEST(RunConfigTest, RulesAcrossFieldsNameTheFieldsAndARemedy) {
  expect_contains(refusal([](RunConfig& c) { c.method = LoraMethod{}; }), {"model.path is empty", "model folder"});
  expect_contains(refusal([](RunConfig& c) { c.method = DiffusionMethod{}; }), {"model.vae", "autoencoder"});
  expect_contains(refusal([](RunConfig& c) { c.data.sources.clear(); }), {"data.sources is empty", "[[data.sources]]"});
  expect_contains(refusal([](RunConfig& c) { c.name = "a/b"; }), {"name = \"a/b\""});
  expect_contains(refusal([](RunConfig& c) { c.name = ".hidden"; }), {".hidden"});
  expect_contains(refusal([](RunConfig& c) {
                    c.schedule.warmup_steps = 5;
                    c.schedule.warmup_fraction = 0.1;
                  }),
                  {"schedule.warmup_steps", "schedule.warmup_fraction"});
}

TEST(RunConfigTest, RulesOfUpdatesDuringTheBackwardPassHold) {
  expect_contains(refusal([](RunConfig& c) { c.stochastic_rounding = true; }), {"stochastic_rounding", "dtype = \"bfloat16\""});
  const auto with = [](const std::function<void(RunConfig&)>& change) {
    return refusal([&](RunConfig& c) {
      c.fused_backward_pass = true;
      c.clip_by = optim::ClipBy::tensor_norm;
      change(c);
    });
  };
  RunConfig right = test::tiny_run("folder");
  right.fused_backward_pass = true;
  right.clip = 0;
  EXPECT_NO_THROW(validate(right));
  expect_contains(with([](RunConfig& c) { c.clip_by = optim::ClipBy::norm; }), {"fused_backward_pass", "clip_by", "clip = 0"});
  expect_contains(with([](RunConfig& c) { c.accumulate = 2; }), {"accumulate = 1"});
  expect_contains(with([](RunConfig& c) { c.not_finite = NotFinite::skip; }), {"not_finite = \"roll_back\""});
  expect_contains(with([](RunConfig& c) { c.lanes = 2; }), {"lanes"});
  expect_contains(with([](RunConfig& c) { c.optimizer = optim::ProdigyConfig{}; }), {"optimizer.type", "adamw"});
}

TEST(RunConfigTest, RulesOfTheObjectiveHold) {
  expect_contains(refusal([](RunConfig& c) { c.objective.noise_offset_random = true; }),
                  {"objective.noise_offset_random", "objective.noise_offset "});
}

TEST(RunConfigTest, AllProblemsAreToldAtOnce) {
  expect_contains(refusal([](RunConfig& c) {
                    c.method = LoraMethod{};
                    c.name = "";
                    c.data.sources.clear();
                  }),
                  {"model.path", "name = \"\"", "data.sources"});
}

class RunFileTest : public ::testing::Test {
 protected:
  std::string refusal(const std::string& text) {
    const auto file = folder / "run.toml";
    std::ofstream(file) << text << "\n[[data.sources]]\npath = \"pictures\"\n";
    const std::string message = test::error_message([&] { load_run_config(file.string()); });
    expect_contains(message, {file.string() + ":"});
    return message;
  }
  test::TempFolder folder;
};

TEST_F(RunFileTest, AMisspeltKeyIsPlacedAndCorrected) {
  expect_contains(refusal("steps = 5\n[method]\ntype = \"autoencoder\"\n[optimizer]\nlearning_rte = 1"),
                  {":5:1", "learning_rte"});
  expect_contains(refusal("step = 5\n[method]\ntype = \"autoencoder\""), {":1:1", "'step'", "steps"});
  expect_contains(refusal("[method]\ntype = \"lora\"\nrnk = 4\n[model]\npath = \"m\""), {":3:1", "rnk", "rank"});
  expect_contains(refusal("[method]\ntype = \"lorra\""), {"lorra", "lora"});
}

TEST_F(RunFileTest, AWrongTypeAndAValueOutOfRangeArePlaced) {
  expect_contains(refusal("steps = \"many\"\n[method]\ntype = \"autoencoder\""), {":1:", "steps", "many"});
  expect_contains(refusal("steps = 0\n[method]\ntype = \"autoencoder\""), {":1:", "steps", "0", "1"});
  expect_contains(refusal("[method]\ntype = \"autoencoder\"\n[optimizer]\nbeta1 = 1.5"), {":4:", "beta1", "1.5"});
}

TEST(RunConfigTest, AColourThatIsNoneIsNamed) {
  expect_contains(refusal([](RunConfig& c) { c.data.background = "pink"; }), {"data.background", "#rrggbb", "\"pink\""});
}

TEST(RunConfigTest, EveryRunFileOfTheProjectIsValid) {
  int count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(test::source_dir() / "configs")) {
    if (entry.path().extension() != ".toml") continue;
    SCOPED_TRACE(entry.path().string());
    ++count;
    EXPECT_NO_THROW(validate(load_run_config(entry.path().string(), {})));
  }
  EXPECT_GE(count, 20);
}

TEST(RunConfigTest, OverridesAreCheckedLikeTheFile) {
  const std::string file = (test::source_dir() / "configs" / "quickstart" / "style.toml").string();
  const RunConfig config = load_run_config(file, {{"method.rank", "4"}, {"optimizer.lr", "1e-5"}});
  EXPECT_EQ(std::get<LoraMethod>(config.method).rank, 4);
  EXPECT_EQ(optim::learning_rate(config.optimizer), 1e-5);
  expect_contains(test::error_message([&] { load_run_config(file, {{"optimiser.lr", "1"}}); }),
                  {"--set optimiser.lr", "optimizer"});
  expect_contains(test::error_message([&] { load_run_config(file, {{"steps", "-3"}}); }), {"--set steps", "-3"});
}

TEST(RunConfigTest, EveryRunFileOfTheProjectLoads) {
  int count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(test::source_dir() / "configs")) {
    if (entry.path().extension() != ".toml") continue;
    ++count;
    EXPECT_NO_THROW(load_run_config(entry.path().string())) << entry.path();
  }
  EXPECT_GE(count, 3);
}

TEST(RunConfigTest, TheEffectiveConfigReadsBackAsItself) {
  RunConfig config = test::tiny_run("folder");
  LoraMethod lora;
  lora.conv_rank = 3;
  lora.targets = {"unet.*", "!unet.*.conv1"};
  config.method = lora;
  config.model.path = "a \"quoted\" folder";
  EXPECT_EQ(config::diff(config::from_toml<RunConfig>(config::to_toml(config), "config.toml"), config), "");
}

}  // namespace
}  // namespace emulsion::train
