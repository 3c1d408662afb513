// Ten training steps against diffusers and PEFT: losses, gradient norms, and the weights after them.
//
// Losses agree to 1e-5 in every step. Gradient norms and the final weights are compared at 1e-4: AdamW divides a gradient
// by its own magnitude, so where a gradient is near zero its rounding noise, relative to itself large, moves the weight by
// up to lr = 1e-3 in either direction, and the next gradients see that. The norm of the first step agrees to 1e-5.
#include "train/replay.h"

#include "core/error.h"
#include "train/methods.h"
#include "train/tiny_runs.h"

namespace emulsion::train {
namespace {

constexpr double kLossTolerance = 1e-5;
double norm_tolerance(int step) { return step == 0 ? 1e-5 : 1e-4; }

/// The run of torch.optim.AdamW in the golden files, which decays every tensor alike.
class DecaysAll : public Method {
 public:
  explicit DecaysAll(std::unique_ptr<Method> inner) : inner_(std::move(inner)) {}
  std::string describe() const override { return inner_->describe(); }
  std::vector<Trainable> trainables() override {
    auto all = inner_->trainables();
    for (Trainable& trainable : all) trainable.decays = true;
    return all;
  }
  Loss loss(const data::Batch& batch, const StepAddress& address) override { return inner_->loss(batch, address); }
  Loss replay(const DenoisingInputs& in, const Tensor& ids) override { return inner_->replay(in, ids); }
  Tensor preview(const data::BatchSource& source, Reporter& reporter) override {
    return inner_->preview(source, reporter);
  }
  std::filesystem::path save_result(const std::filesystem::path& folder) override {
    return inner_->save_result(folder);
  }

 private:
  std::unique_ptr<Method> inner_;
};

/// The golden U-Net with the other parts that a method wants to see.
models::Model golden_model(diffusion::Prediction prediction) {
  models::Model model = test::tiny_model();
  model.unet = test::golden_unet();
  model.scheduler.prediction = prediction;
  return model;
}

RunConfig golden_config(MethodConfig method) {
  RunConfig config = test::in_memory(std::move(method));
  config.steps = 10;
  config.clip = 1;
  config.optimizer = optim::AdamWConfig{.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01};
  return config;
}

std::map<std::string, Tensor> by_name(const NamedTensors& tensors) { return {tensors.begin(), tensors.end()}; }

class TraceTest : public ::testing::TestWithParam<diffusion::Prediction> {};

TEST_P(TraceTest, TenStepsOfTheUNetAreThoseOfDiffusers) {
  const bool v = GetParam() == diffusion::Prediction::v_prediction;
  const auto file = test::golden_file("train_trace_unet");
  const RunConfig config = golden_config(DiffusionMethod{.train_text_encoder = false});
  DecaysAll method(make_diffusion_method(config, golden_model(GetParam())));
  const auto out = by_name(replay(config, method, file, /*update=*/true));
  for (int k = 0; k < 10; ++k) {
    const std::string step = fmt::format("step.{}.", k), expected = (v ? "v." : "") + step;
    EXPECT_TRUE(test::close(out.at(step + "loss"), file.tensor(expected + "loss"), kLossTolerance)) << step;
    EXPECT_TRUE(test::close(out.at(step + "grad_norm"), file.tensor(expected + "grad_norm"), norm_tolerance(k))) << step;
  }
  if (v) return;  // the file holds the weights after the epsilon run
  // AdamW moves a weight by about lr = 1e-3 a step whatever its gradient, so where the gradient is near its own rounding
  // error, rounding decides the direction. Losses and norms above are the strict part.
  for (const Trainable& trainable : method.trainables()) {
    EXPECT_TRUE(test::close(out.at("final." + trainable.name), file.tensor("final.param." + trainable.name), 3e-4))
        << trainable.name;
  }
}
INSTANTIATE_TEST_SUITE_P(Predictions, TraceTest,
                         ::testing::Values(diffusion::Prediction::epsilon, diffusion::Prediction::v_prediction));

class LoraTraceTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LoraTraceTest, TenStepsOfALoraAreThoseOfPeft) {
  const auto file = test::golden_file(GetParam());
  LoraMethod lora;
  lora.rank = 4;
  lora.alpha = 8;
  lora.targets = {"unet.*.to_q", "unet.*.to_k", "unet.*.to_v", "unet.*.to_out.0"};
  if (std::string(GetParam()) == "lora_peft_conv") lora.targets.push_back("unet.*.conv1");
  const RunConfig config = golden_config(lora);
  const auto method = make_lora_method(config, golden_model(diffusion::Prediction::epsilon));
  const auto trainables = method->trainables();
  for (const Trainable& trainable : trainables) {
    *trainable.place = file.tensor("adapter.kohya." + trainable.name).clone();
  }
  const auto out = by_name(replay(config, *method, test::golden_file("train_trace_unet"), /*update=*/true));
  for (int k = 0; k < 10; ++k) {
    const std::string step = fmt::format("step.{}.", k);
    EXPECT_TRUE(test::close(out.at(step + "loss"), file.tensor("train.loss")[k], kLossTolerance)) << step;
    EXPECT_TRUE(test::close(out.at(step + "grad_norm"), file.tensor("train.grad_norm")[k], norm_tolerance(k))) << step;
  }
  // The file names its final tensors as PEFT does; the way from name to name goes over their equal starting values.
  for (const auto& entry : file.entries()) {
    if (!entry.name.starts_with("adapter.peft.")) continue;
    const std::string name = entry.name.substr(std::string_view("adapter.peft.").size());
    const Tensor start = file.tensor(entry.name);
    int found = 0;
    for (const Trainable& trainable : trainables) {
      if (!at::equal(file.tensor("adapter.kohya." + trainable.name), start)) continue;
      ++found;
      EXPECT_TRUE(test::close(out.at("final." + trainable.name), file.tensor("train.final." + name), 1e-4)) << name;
    }
    EXPECT_EQ(found, 1) << name;
  }
}
INSTANTIATE_TEST_SUITE_P(Files, LoraTraceTest, ::testing::Values("lora_peft", "lora_peft_conv"));

TEST(ReplayTest, WithoutUpdateEveryStepSeesTheFirstWeights) {
  const auto file = test::golden_file("train_trace_unet");
  const RunConfig config = golden_config(DiffusionMethod{.train_text_encoder = false});
  const auto method = make_diffusion_method(config, golden_model(diffusion::Prediction::epsilon));
  const auto out = by_name(replay(config, *method, file, /*update=*/false));
  EXPECT_TRUE(test::close(out.at("step.0.loss"), file.tensor("step.0.loss"), 1e-5));
  EXPECT_FALSE(test::close(out.at("step.9.loss"), file.tensor("step.9.loss"), 1e-3));
  EXPECT_FALSE(out.contains("final.conv_in.weight"));
  EXPECT_TRUE(out.contains("step.9.grad.conv_in.weight"));
}

TEST(ReplayTest, ARecordingWithoutInputsIsRefusedByName) {
  const test::TempFolder folder;
  io::write_safetensors(folder / "empty.safetensors", {{"latents", at::zeros({1, 4, 8, 8})}});
  const RunConfig config = golden_config(DiffusionMethod{.train_text_encoder = false});
  const auto method = make_diffusion_method(config, golden_model(diffusion::Prediction::epsilon));
  const auto recording = io::SafetensorsFile::open(folder / "empty.safetensors");
  test::expect_contains(test::error_message([&] { replay(config, *method, recording, false); }),
                        {"empty.safetensors", "step.0.latents"});
}

}  // namespace
}  // namespace emulsion::train
