// Every method with every optimizer: a run that was stopped and went on ends with the bits of one that nobody touched. With
// accumulation, dropout of captions and within networks, and a moving average. That a state survives the death of the process is
// tests/run/kill_test.cpp's matter.
#include <utility>

#include "core/stop.h"
#include "train/run_folder.h"
#include "train/tiny_runs.h"
#include "train/train.h"
#include "weights/model_folder.h"

namespace emulsion::train {
namespace {

namespace fs = std::filesystem;

struct NamedMethod {
  const char* name;
  MethodConfig config;
};

LoraMethod lora(adapters::Algorithm algo, adapters::LoraInit init = adapters::LoraInit::kaiming) {
  LoraMethod lora;
  lora.rank = 2;
  lora.algo = algo;
  lora.init = init;
  lora.targets = {"unet.mid_block.*.attn2.to_*", "text_encoder.*.fc1"};
  return lora;
}

std::vector<NamedMethod> methods() {
  LoraMethod dropping = lora(adapters::Algorithm::lora);
  dropping.dropout = dropping.rank_dropout = dropping.module_dropout = 0.2;
  dropping.max_norm = 0.05;
  LoraMethod dora = lora(adapters::Algorithm::lora);
  dora.dora = true;
  HypernetworkMethod hypernetwork;
  hypernetwork.activation = adapters::Activation::relu;
  hypernetwork.init = adapters::HypernetworkInit::kaiming_normal;
  hypernetwork.dropout = {0, 0.2, 0.2};
  hypernetwork.widths = {16};
  LoraMethod pivotal = lora(adapters::Algorithm::lora);
  pivotal.words = {{.token = "zork", .vectors = 2}};
  return {{"lora", dropping},
          {"pivotal", pivotal},
          {"pissa", lora(adapters::Algorithm::lora, adapters::LoraInit::pissa)},
          {"dora", dora},
          {"loha", lora(adapters::Algorithm::loha)},
          {"lokr", lora(adapters::Algorithm::lokr)},
          {"ia3", lora(adapters::Algorithm::ia3)},
          {"oft", lora(adapters::Algorithm::oft)},
          {"glora", lora(adapters::Algorithm::glora)},
          {"full", lora(adapters::Algorithm::full)},
          {"textual_inversion", TextualInversionMethod{{.token = "zork", .vectors = 2}}},
          {"hypernetwork", hypernetwork},
          {"diffusion", DiffusionMethod{.layers = {{.pattern = "unet.down_blocks.*", .lr = 0}}}},
          {"autoencoder", AutoencoderMethod{}}};
}

class ResumeTest : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override {
    test::write_pictures(temp / "pictures", 3);
    weights::save_model_folder(temp / "base", test::tiny_model());
  }
  void TearDown() override { clear_stop(); }

  RunConfig config(const NamedMethod& method, optim::OptimizerConfig optimizer, const std::string& name) const {
    RunConfig config = test::tiny_run(temp.path());
    config.name = name;
    config.steps = 4;
    config.accumulate = 2;
    config.batch_size = 1;
    config.method = method.config;
    if (!std::holds_alternative<AutoencoderMethod>(config.method)) {
      config.model.path = (temp / "base").string();
      config.data.caption_dropout = 0.3;
    }
    config.data.flip = 0.5;
    if (!words_of(config).empty()) config.data.sources[0].trigger = "zork";
    config.ema.enabled = !std::holds_alternative<optim::ScheduleFreeConfig>(optimizer);
    config.optimizer = std::move(optimizer);
    return config;
  }

  /// What a run leaves, by file.
  static std::map<std::string, std::string> results(const fs::path& folder) {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      const std::string ending = entry.path().extension();
      const bool result = ending == ".safetensors" || ending == ".pt" || entry.path().filename() == "metrics.jsonl";
      if (entry.is_regular_file() && result && entry.path().string().find("/cache/") == std::string::npos)
        all[entry.path().lexically_relative(folder).string()] = test::bytes_of(entry.path());
    }
    return all;
  }

  void expect_exact(const NamedMethod& method, const optim::OptimizerConfig& optimizer) const {
    // The same name: it is in the files.
    RunConfig whole = config(method, optimizer, "run"), stopped = whole;
    whole.output = (temp / "whole").string();
    stopped.output = (temp / "other").string();
    Reporter silent;
    run_training(whole, silent);
    test::StopAfter stopper(2);
    EXPECT_NE(test::error_message([&] { run_training(stopped, stopper); }), "");
    clear_stop();
    run_training(stopped, silent);
    expect_same_results();
  }

  /// A run that was finished, and then got more steps.
  void expect_exact_when_longer(const NamedMethod& method, const optim::OptimizerConfig& optimizer) const {
    RunConfig whole = config(method, optimizer, "run"), longer = whole;
    whole.output = (temp / "whole").string();
    longer.output = (temp / "other").string();
    Reporter silent;
    run_training(whole, silent);
    longer.steps = 2;
    run_training(longer, silent);
    longer.steps = whole.steps;
    run_training(longer, silent);
    expect_same_results();
  }

  void expect_same_results() const {
    const auto expected = results(temp / "whole" / "run"), found = results(temp / "other" / "run");
    EXPECT_GE(expected.size(), 2u);
    for (const auto& [name, bytes] : expected) {
      const auto other = found.find(name);
      EXPECT_TRUE(other != found.end() && other->second == bytes) << name;
    }
    fs::remove_all(temp / "whole");
    fs::remove_all(temp / "other");
  }
  test::TempFolder temp;
};

template <size_t... I>
std::vector<optim::OptimizerConfig> all_optimizers(std::index_sequence<I...>) {
  return {std::variant_alternative_t<I, optim::OptimizerConfig>()...};
}

TEST_P(ResumeTest, EveryMethodEndsWithTheSameBits) {
  const auto optimizer = all_optimizers(std::make_index_sequence<std::variant_size_v<optim::OptimizerConfig>>()).at(GetParam());
  for (const NamedMethod& method : methods()) {
    SCOPED_TRACE(method.name);
    expect_exact(method, optimizer);
  }
}

TEST_P(ResumeTest, AFinishedRunThatGetsMoreStepsEndsAsIfItHadThemFromTheStart) {
  const auto optimizer = all_optimizers(std::make_index_sequence<std::variant_size_v<optim::OptimizerConfig>>()).at(GetParam());
  for (const NamedMethod& method : {methods().front(), methods().back()}) {
    SCOPED_TRACE(method.name);
    expect_exact_when_longer(method, optimizer);
  }
}

std::string optimizer_name(const ::testing::TestParamInfo<size_t>& info) {
  const auto optimizer = all_optimizers(std::make_index_sequence<std::variant_size_v<optim::OptimizerConfig>>()).at(info.param);
  return std::visit([](const auto& chosen) { return std::string(chosen.kType); }, optimizer);
}
INSTANTIATE_TEST_SUITE_P(Optimizers, ResumeTest, ::testing::Range(size_t{0}, std::variant_size_v<optim::OptimizerConfig>),
                         optimizer_name);

}  // namespace
}  // namespace emulsion::train
