// Whole runs in this process: stopping, numbers that are not finite, dry runs, finished runs.
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/stop.h"
#include "train/run_folder.h"
#include "train/tiny_runs.h"
#include "train/train.h"
#include "weights/model_folder.h"

namespace emulsion::train {
namespace {

namespace fs = std::filesystem;
using test::expect_contains;

/// Collects notes, and wishes to stop once so many steps are done.
class Witness : public Reporter {
 public:
  explicit Witness(int64_t stop_after = -1) : stop_after_(stop_after) {}
  void begin(const std::string& what, int64_t, const std::string&, int64_t) override { phase_ = what; }
  void advance(int64_t done, const Figures&) override {
    if (phase_ == "Training" && done == stop_after_) request_stop();
  }
  void note(const std::string& text) override { notes += text + "\n"; }
  std::string notes;

 private:
  int64_t stop_after_;
  std::string phase_;
};

class RunTest : public ::testing::Test {
 protected:
  void SetUp() override { test::write_pictures(temp / "pictures"); }
  void TearDown() override { clear_stop(); }
  RunConfig named(const std::string& name) const {
    RunConfig config = base;
    config.name = name;
    return config;
  }
  std::string metrics(const std::string& name) const { return test::bytes_of(fs::path(base.output) / name / "metrics.jsonl"); }
  std::string trained(const std::string& name) const {
    return test::bytes_of(fs::path(base.output) / name / "model" / "vae" / "diffusion_pytorch_model.safetensors");
  }
  test::TempFolder temp;
  RunConfig base = test::tiny_run(temp.path());
};

TEST_F(RunTest, AStoppedRunIsSavedAndGoesOnToTheSameBits) {
  base.ema.enabled = true;
  Reporter silent;
  EXPECT_EQ(run_training(named("whole"), silent).steps, 6);
  Witness witness(4);
  try {
    run_training(named("stopped"), witness);
    FAIL() << "expected the run to stop";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::cancelled);
    expect_contains(error.what(), {"stopped at step 4 of 6", "the state is saved"});
  }
  clear_stop();
  Witness rest;
  EXPECT_EQ(run_training(named("stopped"), rest, {.dry_run = false, .resume = true}).steps, 2);
  expect_contains(rest.notes, {"going on after step 4"});
  EXPECT_EQ(metrics("stopped"), metrics("whole"));
  EXPECT_TRUE(trained("stopped") == trained("whole"));
}

TEST_F(RunTest, AFinishedRunReturnsAtOnce) {
  Reporter silent;
  const RunResult first = run_training(named("a"), silent);
  const auto written = fs::last_write_time(first.result / "model_index.json");
  Witness witness;
  const RunResult second = run_training(named("a"), witness);
  EXPECT_EQ(second.steps, 0);
  EXPECT_EQ(second.result, first.result);
  EXPECT_EQ(fs::last_write_time(first.result / "model_index.json"), written);
  expect_contains(witness.notes, {"a is finished"});
}

TEST_F(RunTest, PreviewsAreDrawnAsOftenAsAskedForAndAtTheEnd) {
  const auto previews = [&](const std::string& name) {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(fs::path(base.output) / name / "previews")) names.insert(entry.path().filename());
    return names;
  };
  Reporter silent;
  run_training(named("none"), silent);
  EXPECT_EQ(previews("none"), std::set<std::string>{});
  base.preview.every = 4;
  run_training(named("some"), silent);
  EXPECT_EQ(previews("some"), (std::set<std::string>{"step-00000004.png", "step-00000006.png"}));
}

TEST_F(RunTest, ADryRunWritesNothing) {
  Witness witness;
  run_training(named("dry"), witness, {.dry_run = true, .resume = false});
  EXPECT_FALSE(fs::exists(base.output));
  expect_contains(witness.notes, {"6 pictures", "s a step", "GB of memory", "nothing was kept"});
}

TEST_F(RunTest, ResumeInsistsOnACheckpoint) {
  Reporter silent;
  expect_contains(test::error_message([&] { run_training(named("a"), silent, {.dry_run = false, .resume = true}); }),
                  {"--resume", "no checkpoint"});
}

TEST_F(RunTest, ALossThatIsNotFiniteNamesStepAndPictureAndKeepsTheLastState) {
  base.optimizer = optim::AdamWConfig{.lr = 1e30};
  base.checkpoint.every = 1;
  Reporter silent;
  try {
    run_training(named("nan"), silent);
    FAIL() << "expected the loss to overflow";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::numeric);
    expect_contains(error.what(), {"step 2", ".png'", "optimizer.lr"});
  }
  const auto state = RunFolder(named("nan")).load_state();
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->step, 1);
  for (const auto& [name, tensor] : state->tensors) EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
  EXPECT_EQ(metrics("nan").find("null"), std::string::npos);
}

TEST_F(RunTest, StepsThatAreNotFiniteAreLeftOutIfTheRunSaysSo) {
  weights::save_model_folder(temp / "base", test::tiny_model());
  test::write_pictures(temp / "bad", 2);
  base.method = DiffusionMethod{};
  base.model.path = (temp / "base").string();
  base.batch_size = 1;
  base.accumulate = 2;
  base.steps = 12;
  base.not_finite = NotFinite::skip;
  base.data.sources.push_back(base.data.sources[0]);
  base.data.sources[1].path = (temp / "bad").string();
  base.data.sources[1].weight = 1e39;  // no float32
  Witness witness;
  run_training(named("whole"), witness);
  const std::string lines = metrics("whole");
  int64_t skipped = 0;
  for (size_t at = lines.find("\"skipped\":true"); at != lines.npos; at = lines.find("\"skipped\":true", at + 1)) ++skipped;
  EXPECT_GE(skipped, 2);
  EXPECT_LE(skipped, 8);
  expect_contains(witness.notes, {"bad/p", "step left out"});
  const auto state = RunFolder(named("whole")).load_state();
  ASSERT_TRUE(state.has_value());
  for (const auto& [name, tensor] : state->tensors) EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
  Witness stopping(6);
  EXPECT_NE(test::error_message([&] { run_training(named("stopped"), stopping); }), "");
  clear_stop();
  run_training(named("stopped"), witness);
  EXPECT_EQ(metrics("stopped"), lines);

  base.data.sources[0] = base.data.sources[1];
  base.data.sources.pop_back();
  expect_contains(test::error_message([&] { run_training(named("hopeless"), witness); }), {"step 10", "10th step in a row"});
}

TEST_F(RunTest, RollsBackAndGoesOnMoreSlowlyIfTheRunSaysSo) {
  base.optimizer = optim::AdamWConfig{.lr = 400};
  base.steps = 8;
  base.checkpoint.every = 3;
  base.not_finite = NotFinite::roll_back;
  Witness witness;
  run_training(named("whole"), witness);
  expect_contains(witness.notes, {"is not finite", "back to step 3, on at 0.5 of the learning rate"});
  const std::string lines = metrics("whole");
  EXPECT_EQ(std::ranges::count(lines, '\n'), 8) << lines;  // each step once
  EXPECT_NE(lines.find("\"step\":8"), lines.npos);
  Witness stopping(2);
  EXPECT_NE(test::error_message([&] { run_training(named("stopped"), stopping); }), "");
  clear_stop();
  run_training(named("stopped"), witness);
  EXPECT_EQ(metrics("stopped"), lines);

  base.optimizer = optim::AdamWConfig{.lr = 1e30};
  expect_contains(test::error_message([&] { run_training(named("hopeless"), witness); }), {"step 2", "did not help 5 times"});
}

TEST_F(RunTest, DamagedPicturesAreToldAndTheOthersTrain) {
  std::ofstream(temp / "pictures" / "broken.png") << "no picture";
  Witness witness;
  run_training(named("a"), witness);
  expect_contains(witness.notes, {"left out", "broken.png", "6 pictures"});
}

TEST_F(RunTest, AFolderWithoutPicturesSaysWhereItLooked) {
  fs::create_directories(temp / "none");
  base.data.sources[0].path = (temp / "none").string();
  Reporter silent;
  expect_contains(test::error_message([&] { run_training(named("a"), silent); }), {(temp / "none").string()});
  EXPECT_FALSE(fs::exists(base.output));
}

TEST_F(RunTest, NormalisedLatentsHaveMeanZeroAndSpreadOneAndChangeNoReconstruction) {
  Reporter silent;
  auto plain = std::get<AutoencoderMethod>(base.method);
  plain.normalise_latents = false;
  RunConfig raw = named("raw");
  raw.method = plain;
  const auto load = [](const RunResult& result) { return weights::load_model_folder(result.result); };
  const models::Model before = load(run_training(raw, silent)), after = load(run_training(named("normal"), silent));
  const at::NoGradGuard no_grad;
  std::vector<Tensor> pictures;
  for (int i = 0; i < 6; ++i) {
    const Tensor bytes = io::read_image(temp / "pictures" / fmt::format("p{}.png", i));
    pictures.push_back(bytes.permute({2, 0, 1}).to(at::kFloat) / 127.5 - 1);
  }
  const Tensor pixels = at::stack(pictures);
  const models::Posterior old_latents(before.vae->net.encode(pixels)), new_latents(after.vae->net.encode(pixels));
  EXPECT_LT(new_latents.mean.mean({0, 2, 3}).abs().max().item<double>(), 1e-3);
  EXPECT_LT((new_latents.mean.var({0, 2, 3}, false).sqrt() - 1).abs().max().item<double>(), 1e-2);
  EXPECT_TRUE(test::close(after.vae->net.decode(new_latents.mean), before.vae->net.decode(old_latents.mean), 1e-3));
  const Tensor eps = at::randn(old_latents.mean.sizes());
  EXPECT_TRUE(test::close(after.vae->net.decode(new_latents.sample(eps)), before.vae->net.decode(old_latents.sample(eps)), 1e-3));
}

}  // namespace
}  // namespace emulsion::train
