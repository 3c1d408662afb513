// Prior preservation: class pictures drawn once, beside the others, at a weight of their own.
#include "train/prior.h"

#include <cmath>

#include "core/error.h"
#include "core/stop.h"
#include "data/index.h"
#include "train/methods.h"
#include "train/tiny_runs.h"
#include "train/train.h"
#include "weights/model_folder.h"

namespace emulsion::train {
namespace {

namespace fs = std::filesystem;

class PriorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_pictures(temp / "pictures");
    weights::save_model_folder(temp / "model", test::tiny_model());
    config = test::tiny_run(temp.path());
    config.method = LoraMethod{};
    config.model.path = (temp / "model").string();
    config.steps = 3;
    config.priors = {{.prompt = "a thing", .count = 3, .weight = 0.5, .steps = 2}};
    config.name = "dreambooth";
  }
  void TearDown() override { clear_stop(); }

  fs::path folder() const { return fs::path(config.output) / config.name / "prior-1"; }
  std::vector<std::string> drawn() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder())) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  test::TempFolder temp;
  RunConfig config;
};

TEST_F(PriorTest, MissingPicturesAreDrawnOnceAndAreTheSameWheneverTheyAreDrawn) {
  Reporter silent;
  run_training(config, silent);
  ASSERT_EQ(drawn(), (std::vector<std::string>{"class-00000000.png", "class-00000001.png", "class-00000002.png"}));
  const std::string second = test::bytes_of(folder() / "class-00000001.png");
  EXPECT_NE(second, test::bytes_of(folder() / "class-00000000.png"));
  const auto written = fs::last_write_time(folder() / "class-00000000.png");
  fs::remove(folder() / "class-00000001.png");
  EXPECT_EQ(missing_class_pictures(config.priors[0], folder()), 1);
  run_training(config, silent);
  EXPECT_EQ(test::bytes_of(folder() / "class-00000001.png"), second);
  EXPECT_EQ(fs::last_write_time(folder() / "class-00000000.png"), written);
}

TEST_F(PriorTest, PicturesOfTheUsersOwnAreTaken) {
  config.priors[0].path = test::write_pictures(temp / "class", 3).string();
  Reporter silent;
  run_training(config, silent);
  EXPECT_FALSE(fs::exists(folder()));
  EXPECT_FALSE(fs::exists(temp / "class" / "class-00000000.png"));
}

TEST_F(PriorTest, AnEpochHasAboutAsManyClassPicturesAsOthers) {
  const auto epoch = [&](int64_t class_count, int64_t draws) {
    PriorConfig prior = config.priors[0];
    prior.count = class_count;
    const data::DataConfig all = with_class_pictures(config.data, {prior}, {"somewhere"}, draws);
    EXPECT_EQ(all.sources.size(), 2u);
    EXPECT_EQ(all.sources[1].caption, "a thing");
    EXPECT_EQ(all.sources[1].weight, 0.5);
    return std::pair(draws * all.sources[0].repeats, class_count * all.sources[1].repeats);
  };
  EXPECT_EQ(epoch(6, 6), std::pair(int64_t{6}, int64_t{6}));
  EXPECT_EQ(epoch(200, 10), std::pair(int64_t{200}, int64_t{200}));
  EXPECT_EQ(epoch(10, 200), std::pair(int64_t{200}, int64_t{200}));
}

TEST_F(PriorTest, AStopWhileDrawingKeepsWhatIsDrawn) {
  struct : Reporter {
    void begin(const std::string& what, int64_t, const std::string&, int64_t) override { phases.push_back(what); }
    void advance(int64_t, const Figures&) override {
      if (phases.back() == "Drawing class pictures") request_stop();
    }
    void end(const std::string&) override { phases.pop_back(); }
    std::vector<std::string> phases;
  } reporter;
  config.data.resolution = 256;  // few at once
  config.data.sources[0].path = test::write_pictures(temp / "pictures").string();
  config.priors[0].count = 9;
  config.priors[0].steps = 1;
  EXPECT_NE(test::error_message([&] { run_training(config, reporter); }).find("what is drawn is kept"), std::string::npos);
  const size_t kept = drawn().size();
  EXPECT_GT(kept, 0u);
  EXPECT_LT(kept, 9u);
}

TEST_F(PriorTest, ADryRunDrawsNothingAndSaysHowManyAreMissing) {
  struct : Reporter {
    void note(const std::string& text) override { notes += text + "\n"; }
    std::string notes;
  } reporter;
  run_training(config, reporter, {.dry_run = true});
  EXPECT_FALSE(fs::exists(folder()));
  test::expect_contains(reporter.notes, {"3 class pictures would be drawn first"});
}

TEST_F(PriorTest, ThePicturesWeightMultipliesItsLoss) {
  const auto made = make_lora_method(config, test::tiny_model());
  data::Batch batch;
  batch.pixels = Rng(5).normal({2, 3, 16, 16}, Purpose::augment).clamp(-1, 1).contiguous(at::MemoryFormat::ChannelsLast);
  batch.captions = {"a", "b"};
  batch.samples = {0, 1};
  batch.draws = {0, 1};
  batch.ids = {"a.png", "b.png"};
  batch.flipped = {false, false};
  const Loss plain = made->loss(batch, {});
  batch.weights = {1, 0.25};
  const Loss weighted = made->loss(batch, {});
  const Tensor each = plain.per_sample.to(at::kDouble);
  EXPECT_TRUE(at::equal(weighted.per_sample, plain.per_sample));
  EXPECT_NEAR(weighted.value.item<double>(), (each[0] + 0.25 * each[1]).item<double>() / 2, 1e-6);
}

TEST_F(PriorTest, AnAutoencoderHasNone) {
  config.method = AutoencoderMethod{};
  const std::string message = test::error_message([&] { validate(config); });
  test::expect_contains(message, {"priors need a method that draws"});
}

}  // namespace
}  // namespace emulsion::train
