// Runs of adapters: going on from a file, on top of merged files, with a largest norm, from a part of the weights.
#include "adapters/lora.h"

#include <algorithm>

#include "core/stop.h"
#include "generate/embeddings.h"
#include "io/safetensors.h"
#include "train/methods.h"
#include "train/tiny_runs.h"
#include "train/train.h"
#include "weights/adapter_file.h"
#include "weights/load_model.h"
#include "weights/model_folder.h"

namespace emulsion::train {
namespace {

/// Collects the phases of a run.
class Phases : public Reporter {
 public:
  void begin(const std::string& what, int64_t, const std::string&, int64_t) override { all.push_back(what); }
  std::vector<std::string> all;
};

class LoraRunsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_pictures(temp / "pictures");
    weights::save_model_folder(temp / "base", test::tiny_model());
  }
  void TearDown() override { clear_stop(); }

  RunConfig config(const std::string& name, LoraMethod lora = {}) const {
    RunConfig config = test::tiny_run(temp.path());
    config.name = name;
    config.steps = 4;
    config.model.path = (temp / "base").string();
    config.optimizer = optim::AdamWConfig{.lr = 1e-2, .weight_decay = 0};
    if (lora.rank == LoraMethod().rank) lora.rank = 3;
    lora.targets = {"unet.*.attn2.to_*", "text_encoder.*.fc1"};
    config.method = lora;
    return config;
  }
  std::filesystem::path run(const RunConfig& config) const {
    Reporter silent;
    return run_training(config, silent).result;
  }
  test::TempFolder temp;
};

TEST_F(LoraRunsTest, ARunGoesOnFromAnAdapterOfAFile) {
  LoraMethod lora;
  const auto first = run(config("first", lora));
  lora.start = first.string();
  lora.rank = 7;  // the file's counts
  RunConfig more = config("more", lora);
  more.steps = 1;
  std::get<optim::AdamWConfig>(more.optimizer).lr = 1e-4;
  const auto before = io::SafetensorsFile::open(first), after = io::SafetensorsFile::open(run(more));
  ASSERT_EQ(after.entries().size(), before.entries().size());
  double moved = 0;
  for (const auto& entry : before.entries()) {
    const Tensor difference = after.tensor(entry.name) - before.tensor(entry.name);
    // Adam's first step is the learning rate.
    EXPECT_LE(difference.abs().max().item<double>(), 1.01e-4) << entry.name;
    moved = std::max(moved, difference.abs().max().item<double>());
  }
  EXPECT_GT(moved, 0.9e-4);
  EXPECT_EQ(after.metadata().at("ss_network_dim"), "3");
}

TEST_F(LoraRunsTest, ALaterStartEncodesNothingAgain) {
  RunConfig twice = config("twice");
  std::get<LoraMethod>(twice.method).targets = {"unet.*.attn2.to_*"};  // where text encoders train, their states are fresh
  Phases first, second, other;
  run_training(twice, first);
  twice.steps = 5;
  run_training(twice, second);
  twice.name = "other";
  twice.seed += 1;
  run_training(twice, other);
  EXPECT_EQ(first.all, other.all);
  for (const char* phase : {"Encoding pictures", "Encoding captions"}) {
    EXPECT_EQ(std::ranges::count(first.all, phase), 1) << phase;
    EXPECT_EQ(std::ranges::count(second.all, phase), 0) << phase;
  }
}

TEST_F(LoraRunsTest, AModelComesInItsComputingTypeUnlessOthersAreMergedIntoIt) {
  RunConfig plain = config("plain");
  models::Model exact = loaded_model(plain), rounded = loaded_model(plain, at::kBFloat16);
  exact.convert(at::kBFloat16);
  for (size_t i = 0; i < exact.unet->store.params().size(); ++i) {
    EXPECT_TRUE(at::equal(rounded.unet->store.params()[i].value, exact.unet->store.params()[i].value)) << i;
  }
  plain.model.merge = {{run(config("first")).string(), 0.5}};
  EXPECT_EQ(loaded_model(plain, at::kBFloat16).unet->store.params().front().value.scalar_type(), at::kFloat);
}

TEST_F(LoraRunsTest, AdaptersAreMergedIntoTheModelBeforeItTrains) {
  const auto file = run(config("first"));
  RunConfig merging = config("merging");
  merging.model.merge = {{file.string(), 0.5}, {file.string(), -2}};
  const models::Model plain = weights::load_model(temp / "base"), merged = loaded_model(merging);
  adapters::AdapterSet adapter = weights::load_adapter(file, plain);
  ASSERT_FALSE(adapter.bound().empty());
  for (auto& bound : adapter.bound()) {
    const auto& lora = dynamic_cast<adapters::LoraAdapter&>(*bound.adapter);
    const bool unet = bound.path.starts_with("unet.");
    const auto weight = [&](const models::Model& model) {
      nn::ParamStore& store = const_cast<nn::ParamStore&>(unet ? model.unet->store : model.text_encoder->store);
      return store.at(bound.leaf->path + ".weight").value;
    };
    const Tensor update = lora.scale() * at::matmul(lora.up, lora.down);
    EXPECT_GT(update.abs().max().item<double>(), 1e-4) << bound.path;
    EXPECT_TRUE(test::close(weight(merged), weight(plain) - 1.5 * update, 1e-5)) << bound.path;
  }
}

TEST_F(LoraRunsTest, NoUpdateIsLargerThanTheLargestNorm) {
  LoraMethod lora;
  lora.max_norm = 0.01;
  const auto limited = run(config("limited", lora)), free = run(config("free"));
  const models::Model model = weights::load_model(temp / "base");
  const auto largest = [&](const std::filesystem::path& file) {
    double norm = 0;
    adapters::AdapterSet set = weights::load_adapter(file, model);
    for (auto& bound : set.bound()) norm = std::max(norm, dynamic_cast<adapters::LoraAdapter&>(*bound.adapter).norm());
    return norm;
  };
  EXPECT_NEAR(largest(limited), 0.01, 1e-6);
  EXPECT_GT(largest(free), 0.02);
}

TEST_F(LoraRunsTest, AnAdapterThatStartsAtTheWeightsStopsAndGoesOnToTheSameBits) {
  for (const auto init : {adapters::LoraInit::pissa, adapters::LoraInit::olora}) {
    LoraMethod lora;
    lora.init = init;
    const std::string kind = init == adapters::LoraInit::pissa ? "pissa" : "olora";
    const auto whole = run(config(kind + "-a", lora));
    const RunConfig again = config(kind + "-b", lora);
    test::StopAfter stopper(2);
    test::expect_contains(test::error_message([&] { run_training(again, stopper); }), {"stopped"});
    clear_stop();
    const auto resumed = io::SafetensorsFile::open(run(again)), straight = io::SafetensorsFile::open(whole);
    EXPECT_EQ(straight.metadata().at("ss_network_dim"), "6");
    EXPECT_EQ(straight.metadata().at("ss_network_alpha"), "32");
    for (const auto& entry : straight.entries()) {
      EXPECT_TRUE(at::equal(resumed.tensor(entry.name), straight.tensor(entry.name))) << entry.name;
    }
  }
}

TEST_F(LoraRunsTest, WordsAreLearntAlongAndLieInTheAdaptersFile) {
  LoraMethod lora;
  lora.words = {{.token = "zork", .vectors = 2, .lr = 3}, {.token = "blip", .init = "ab"}};
  RunConfig config = this->config("words", lora);
  config.data.sources[0].templates = {"a zork by blip"};
  const auto file = run(config);
  const models::Model model = weights::load_model(temp / "base");
  EXPECT_FALSE(weights::load_adapter(file, model).bound().empty());
  const auto words = generate::bundled_embeddings(file, model);
  ASSERT_EQ(words.size(), 2u);
  EXPECT_EQ(words[0].name, "blip");
  EXPECT_EQ(words[1].name, "zork");
  EXPECT_EQ(words[1].vectors[0].sizes(), (std::vector<int64_t>{2, 16}));
  EXPECT_TRUE(io::SafetensorsFile::open(file).contains("bundle_emb.zork.string_to_param.*"));
  const auto alone = generate::load_embedding(file.parent_path() / "zork.safetensors", "zork", model);
  EXPECT_TRUE(at::equal(alone.vectors[0], words[1].vectors[0]));
  // Adam moves every number by about the rate in each of four steps: three times as far where the rate is three times as high.
  config.name = "begin";
  config.steps = 1;
  std::get<optim::AdamWConfig>(config.optimizer).lr = 1e-12;
  const auto begin = generate::bundled_embeddings(run(config), model);
  for (const size_t i : {0, 1}) {
    const double moved = (words[i].vectors[0] - begin[i].vectors[0]).abs().max().item<double>();
    EXPECT_NEAR(moved, i == 0 ? 0.04 : 0.12, i == 0 ? 0.008 : 0.024) << words[i].name;
  }
  config.name = "silent";
  config.data.sources[0].templates = {"a zork"};
  test::expect_contains(test::error_message([&] { run(config); }), {"the word 'blip'", "trigger"});
}

TEST_F(LoraRunsTest, TwoWaysToBeginAreRefused) {
  LoraMethod lora;
  lora.start = "a.safetensors";
  lora.init = adapters::LoraInit::pissa;
  test::expect_contains(test::error_message([&] { validate(config("two", lora)); }), {"method.start", "take one out"});
  lora.start = "";
  LoraMethod speaking;
  speaking.words = {{.token = "zork"}};
  test::expect_contains(test::error_message([&] { validate(config("zork", speaking)); }), {"the same file", "another name"});
  RunConfig prior = config("prior", lora);
  prior.data.sources[0].prior_prediction = true;
  test::expect_contains(test::error_message([&] { validate(prior); }), {"prior_prediction", "takes it apart"});
  prior.method = DiffusionMethod{};
  test::expect_contains(test::error_message([&] { validate(prior); }), {"prior_prediction", "[[priors]]"});
}

}  // namespace
}  // namespace emulsion::train
