// The ready run files of each family: two steps on the family's wiring at a few thousand weights, and the file that people expect.
#include "core/device.h"
#include "models/family.h"
#include "models/model.h"
#include "train/tiny_runs.h"
#include "train/train.h"
#include "weights/model_folder.h"

namespace emulsion::train {
namespace {

namespace fs = std::filesystem;

class ReadyConfigTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    test::write_pictures(temp / "pictures", 4);
    weights::save_model_folder(temp / "model", models::new_model(models::tiny(models::find_family(GetParam())), Rng(7)));
  }
  /// Where the result of a run file lies.
  fs::path run(const fs::path& file) {
    config::Overrides overrides = {{"model.path", (temp / "model").string()}, {"data.sources.0.path", (temp / "pictures").string()},
                                   {"output", (temp / "runs").string()},      {"steps", "2"},
                                   {"data.resolution", "64"},                 {"data.buckets", "false"},
                                   {"preview.every", "0"},                    {"threads", "1"}};
    if (file.stem() == "dreambooth") overrides.insert(overrides.end(), {{"priors.0.count", "2"}, {"priors.0.steps", "1"}});
    RunConfig config = load_run_config(file.string(), overrides);
    Reporter silent;
    // As the run files say to do on such a processor.
    if (!has_fast_bfloat16()) config.dtype = ComputeDtype::float32;
    run_training(config, silent);
    return fs::path(config.output) / config.name;
  }
  test::TempFolder temp;
};

TEST_P(ReadyConfigTest, EveryMethodTrainsForTwoSteps) {
  const fs::path folder = test::source_dir() / "configs" / GetParam();
  const std::map<std::string, std::string> results = {{"lora", ".safetensors"},
                                                      {"dreambooth", ".safetensors"},
                                                      {"textual_inversion", "zorkstyle.safetensors"},
                                                      {"hypernetwork", ".pt"},
                                                      {"full", "model"}};
  for (const auto& [method, ending] : results) {
    const fs::path done = run(folder / (method + ".toml"));
    const fs::path result = done / (ending[0] == '.' ? done.filename().string() + ending : ending);
    EXPECT_TRUE(fs::exists(result)) << result;
  }
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder)) files += entry.path().extension() == ".toml" ? 1 : 0;
  EXPECT_EQ(files, static_cast<int>(results.size())) << "a run file of " << folder << " is not tested";
}

INSTANTIATE_TEST_SUITE_P(Families, ReadyConfigTest, ::testing::Values("sd1", "sd2", "sdxl"));

}  // namespace
}  // namespace emulsion::train
