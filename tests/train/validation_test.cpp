// Judging held-back pictures: what is added up, which caption stands against which, and that nothing is left to chance.
#include "train/validation.h"

#include <cmath>

#include "core/error.h"
#include "train/methods.h"
#include "train/tiny_runs.h"
#include "train/train.h"
#include "weights/tiny_model.h"

namespace emulsion::train {
namespace {

using test::expect_contains;

/// Loses by caption: the own one of picture n, "thing number n", costs n, any other 1.5; later timesteps cost more.
class ByCaption : public Method {
 public:
  std::string describe() const override { return "by caption"; }
  std::vector<Trainable> trainables() override { return {}; }
  Loss loss(const data::Batch&, const StepAddress&) override { return {}; }
  Tensor preview(const data::BatchSource&, Reporter&) override { return {}; }
  std::filesystem::path save_result(const std::filesystem::path&) override { return {}; }
  Tensor validation_losses(const data::Batch& batch, const std::vector<std::vector<std::string>>& readings,
                           const std::vector<double>& whens) const override {
    std::vector<Tensor> all;
    for (const std::vector<std::string>& captions : readings) {
      std::vector<Tensor> losses;
      for (const double when : whens) losses.push_back(losses_of(batch, captions, when));
      all.push_back(at::stack(losses).mean(0));
    }
    return at::stack(all);
  }
  Tensor losses_of(const data::Batch& batch, const std::vector<std::string>& captions, double when) const {
    std::vector<double> losses;
    for (size_t i = 0; i < captions.size(); ++i) {
      const bool own = captions[i] == batch.captions[i];
      const double number = captions[i].back() - '0';
      losses.push_back((own ? number : 1.5) + when);  // so that pictures 0 and 1 are told apart, the other four are not
      seen.push_back(batch.ids[i] + ":" + captions[i]);
    }
    sizes.push_back(captions.size());
    return at::tensor(losses, at::kDouble);
  }
  mutable std::vector<std::string> seen;
  mutable std::vector<size_t> sizes;
};

class ValidationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_pictures(temp / "held");
    data::SourceConfig source;
    source.path = (temp / "held").string();
    config.validation.sources = {source};
    config.validation.every = 3;
    config.validation.timesteps = 2;
  }
  test::TempFolder temp;
  RunConfig config = test::tiny_run(temp.path());
  Reporter silent;
};

TEST_F(ValidationTest, AddsUpPicturesAndTimestepsAndComparesWithTheNextCaption) {
  config.batch_size = 4;
  ByCaption method;
  const Validated result = Validation(config, silent).judge(method, silent);
  EXPECT_DOUBLE_EQ(result.loss, 2.5 + 0.5);  // the mean of 0 to 5, and of the times 0.25 and 0.75
  ASSERT_TRUE(result.agreement);
  EXPECT_DOUBLE_EQ(*result.agreement, 2.0 / 6);
  EXPECT_EQ(method.sizes, (std::vector<size_t>{4, 4, 4, 4, 2, 2, 2, 2}));
  // The next picture's caption, across batches, and the first one's for the last.
  EXPECT_NE(std::find(method.seen.begin(), method.seen.end(), "p3.png:thing number 4"), method.seen.end());
  EXPECT_NE(std::find(method.seen.begin(), method.seen.end(), "p5.png:thing number 0"), method.seen.end());
}

TEST_F(ValidationTest, TakesAsManyPicturesAsAskedSpreadOverAll) {
  config.validation.count = 3;
  config.batch_size = 4;
  ByCaption method;
  EXPECT_DOUBLE_EQ(Validation(config, silent).judge(method, silent).loss, 2 + 0.5);  // pictures 0, 2 and 4
}

TEST_F(ValidationTest, ADenoisersFiguresRepeatAndDoNotDependOnTheBatch) {
  config.method = DiffusionMethod{};
  const auto method = make_diffusion_method(config, test::tiny_model());
  config.batch_size = 1;
  const Validated one = Validation(config, silent).judge(*method, silent);
  config.batch_size = 3;
  const Validation three(config, silent);
  const Validated first = three.judge(*method, silent), again = three.judge(*method, silent);
  EXPECT_NEAR(one.loss, first.loss, 1e-6 * first.loss);  // float32 sums in another order
  EXPECT_EQ(first.loss, again.loss);
  EXPECT_EQ(first.agreement, again.agreement);
  EXPECT_GT(first.loss, 0.1);
}

TEST_F(ValidationTest, ARunWritesTheFiguresWhenTheyAreDue) {
  test::write_pictures(temp / "pictures");
  config.name = "validated";
  config.steps = 7;
  run_training(config, silent);
  const std::string metrics = test::bytes_of(temp / "runs" / "validated" / "metrics.jsonl");
  std::vector<int64_t> validated;
  std::istringstream lines(metrics);
  std::string line;
  for (int64_t step = 1; std::getline(lines, line); ++step) {
    if (line.find("\"validation_loss\":") != std::string::npos) validated.push_back(step);
    EXPECT_EQ(line.find("agreement"), std::string::npos) << "an autoencoder reads no captions";
  }
  EXPECT_EQ(validated, (std::vector<int64_t>{3, 6, 7}));
}

TEST_F(ValidationTest, RefusesHalfASetting) {
  config.validation.sources.clear();
  expect_contains(test::error_message([&] { train::validate(config); }),
                  {"validation.every", "[[validation.sources]]", "both or neither"});
}

}  // namespace
}  // namespace emulsion::train
