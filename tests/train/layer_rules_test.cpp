// Ranks and learning rates of their own for some layers, and weights that stay.
#include <map>
#include <set>

#include "core/device.h"
#include "train/methods.h"
#include "train/tiny_runs.h"
#include "train/train.h"
#include "train/trainer.h"
#include "weights/load_model.h"
#include "weights/model_folder.h"

namespace emulsion::train {
namespace {

using test::expect_contains;

std::map<std::string, Trainable> by_name(Method& method) {
  std::map<std::string, Trainable> all;
  for (const Trainable& trainable : method.trainables()) all.emplace(trainable.name, trainable);
  return all;
}

TEST(LayerRulesTest, AdaptersTakeTheLastRuleThatFits) {
  LoraMethod lora;
  lora.rank = 4;
  lora.lora_plus = 16;
  lora.targets = {"unet.*.attn*.to_*"};
  lora.layers = {{.pattern = "unet.*.attn1.*", .rank = 2, .alpha = 6, .lr = 0.5}, {.pattern = "unet.*.attn1.to_q", .lr = 3}};
  const auto method = make_lora_method(test::in_memory(lora), test::tiny_model());
  const auto all = by_name(*method);
  std::set<std::string> seen;
  for (const auto& [name, trainable] : all) {
    const bool up = name.ends_with("lora_up.weight");
    const std::string kind = name.find("attn2") != std::string::npos        ? "other"
                             : name.find("attn1_to_q") != std::string::npos ? "q"
                                                                            : "attn1";
    seen.insert(kind);
    EXPECT_EQ(trainable.place->size(up ? 1 : 0), kind == "attn1" ? 2 : 4) << name;
    const double lr = kind == "attn1" ? 0.5 : kind == "q" ? 3 : 1;
    EXPECT_DOUBLE_EQ(trainable.lr, lr * (up ? 16 : 1)) << name;
  }
  EXPECT_EQ(seen.size(), 3u);
  lora.layers = {{.pattern = "unet.*.atn1.*"}};
  expect_contains(test::error_message([&] { make_lora_method(test::in_memory(lora), test::tiny_model()); }), {"unet.*.atn1.*"});
}

TEST(LayerRulesTest, ARateChangesTheStepOfItsLayersAlone) {
  DiffusionMethod diffusion;
  diffusion.layers = {{.pattern = "unet.mid_block.*", .lr = 0.5}};
  RunConfig config = test::in_memory(diffusion);
  config.optimizer = optim::SgdConfig{.lr = 1, .momentum = 0, .nesterov = false};
  config.clip = 0;
  const auto moved = [&](double rate) {
    std::get<DiffusionMethod>(config.method).layers[0].lr = rate;
    const auto method = make_diffusion_method(config, test::tiny_model());
    Learner learner(config, *method);
    learner.begin(0);
    std::map<std::string, Tensor> before;
    for (const Trainable& trainable : learner.trainables()) {
      before[trainable.name] = trainable.place->detach().clone();
      trainable.place->mutable_grad() = at::ones_like(*trainable.place);
    }
    learner.update();
    std::map<std::string, double> distances;
    for (const Trainable& trainable : learner.trainables()) {
      distances[trainable.name] = (before[trainable.name] - *trainable.place).mean().item<double>();
    }
    return distances;
  };
  for (const auto& [name, distance] : moved(0.5)) EXPECT_NEAR(distance, name.starts_with("mid_block.") ? 0.5 : 1, 1e-5) << name;
  const auto still = moved(0);
  EXPECT_GT(still.size(), 0u);
  for (const auto& [name, distance] : still) EXPECT_FALSE(name.starts_with("mid_block.")) << name;
}

TEST(LayerRulesTest, LayersTrainBetweenTheirSteps) {
  DiffusionMethod diffusion;
  diffusion.layers = {{.pattern = "text_encoder.*", .lr = 1, .until = 2}, {.pattern = "unet.*", .lr = 1, .from = 1}};
  RunConfig config = test::in_memory(diffusion);
  config.optimizer = optim::AdamWConfig{.lr = 1e-2};
  const auto method = make_diffusion_method(config, test::tiny_model());
  Learner learner(config, *method);
  for (int64_t step = 0; step < 4; ++step) {
    learner.begin(step);
    std::map<std::string, Tensor> before;
    for (const Trainable& trainable : learner.trainables()) {
      before[trainable.name] = trainable.place->detach().clone();
      trainable.place->mutable_grad() = at::ones_like(*trainable.place);
    }
    learner.update();
    for (const Trainable& trainable : learner.trainables()) {
      const bool text = trainable.name.starts_with("text_model.");
      EXPECT_EQ(at::equal(before[trainable.name], trainable.place->detach()), text ? step >= 2 : step < 1)
          << trainable.name << " " << step;
    }
  }
}

TEST(LayerRulesTest, StillWeightsAreWrittenAsTheyWereReadInAnyDtype) {
  const test::TempFolder temp;
  test::write_pictures(temp / "pictures");
  weights::save_model_folder(temp / "base", test::tiny_model());
  for (const ComputeDtype dtype : {ComputeDtype::float32, ComputeDtype::bfloat16}) {
    if (dtype == ComputeDtype::bfloat16 && !has_fast_bfloat16()) continue;  // refused there
    RunConfig config = test::tiny_run(temp.path());
    config.name = dtype == ComputeDtype::float32 ? "full" : "half";
    config.dtype = dtype;
    config.model.path = (temp / "base").string();
    config.method = DiffusionMethod{.layers = {{.pattern = "*"}, {.pattern = "unet.*.attn2.*", .lr = 1}}};
    config.optimizer = optim::AdamWConfig{.lr = 1e-2};
    Reporter silent;
    const auto result = run_training(config, silent).result;
    const models::Model before = weights::load_model(temp / "base"), after = weights::load_model(result);
    int changed = 0, kept = 0;
    for (const auto* part : {&before.unet->store, &before.text_encoder->store}) {
      const bool unet = part == &before.unet->store;
      for (const nn::Param& param : part->params()) {
        nn::ParamStore& now = const_cast<nn::ParamStore&>(unet ? after.unet->store : after.text_encoder->store);
        const bool same = at::equal(param.value, now.at(param.path).value);
        const bool trains = unet && param.path.find(".attn2.") != std::string::npos;
        EXPECT_EQ(same, !trains) << param.path;
        (same ? kept : changed)++;
      }
    }
    EXPECT_GT(changed, 0);
    EXPECT_GT(kept, 0);
  }
}

TEST(LayerRulesTest, WhatMatchesNothingOrLeavesNothingIsRefused) {
  DiffusionMethod diffusion;
  diffusion.layers = {{.pattern = "unet.mid_blok.*"}};
  expect_contains(test::error_message([&] { make_diffusion_method(test::in_memory(diffusion), test::tiny_model()); }),
                  {"unet.mid_blok.*"});
  diffusion.layers = {{.pattern = "*"}};
  const auto method = make_diffusion_method(test::in_memory(diffusion), test::tiny_model());
  expect_contains(test::error_message([&] { method->trainables(); }), {"lr = 0", "nothing trains"});
}

}  // namespace
}  // namespace emulsion::train
