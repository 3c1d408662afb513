// LoRA on the tiny U-Net against PEFT: output, loss, every gradient, and the merged model.
//
// Outputs, loss and weights agree to 1e-5. Gradients have twice the depth of rounding, and large adapters make this net
// badly conditioned: PEFT's own float32 gradients lie up to 3.4e-5 of a tensor's largest value from those that PEFT
// computes in float64, and the two were seen 6.4e-5 apart. Hence 2e-4 for them.
#include "adapters/adapter_set.h"
#include "adapters/lora.h"
#include "nn/layers.h"
#include "weights/tiny_model.h"

namespace emulsion::weights {
namespace {

constexpr double kTolerance = 1e-5;
constexpr double kGradientTolerance = 2e-4;

adapters::LoraAdapter& lora_at(const adapters::AdapterSet::Bound& bound) {
  return dynamic_cast<adapters::LoraAdapter&>(*bound.adapter);
}

class LoraGolden : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    adapters::AdapterConfig config;
    config.rank = 4;
    config.alpha = 8;
    config.targets = {"unet.*.to_q", "unet.*.to_k", "unet.*.to_v", "unet.*.to_out.0"};
    if (std::string(GetParam()) == "lora_peft_conv") config.targets.push_back("unet.*.conv1");
    set = adapters::AdapterSet::create(config, {{"unet", &unet->store}}, Rng(1));
    for (auto& bound : set.bound()) {
      const std::string name = "adapter.peft." + bound.path;
      lora_at(bound).down = file.tensor(name + ".lora_A.weight").clone().set_requires_grad(true);
      lora_at(bound).up = file.tensor(name + ".lora_B.weight").clone().set_requires_grad(true);
    }
  }

  Tensor forward() const {
    return unet->net.forward(file.tensor("input.sample"), file.tensor("input.timestep"),
                             {.context = file.tensor("input.context")});
  }

  io::SafetensorsFile file = test::golden_file(GetParam());
  std::unique_ptr<models::Part<models::UNet>> unet = test::golden_unet();
  adapters::AdapterSet set;
};

TEST_P(LoraGolden, OutputLossAndEveryGradientAreThoseOfPeft) {
  const adapters::ActiveAdapters active({{&set, 1.0}});
  const Tensor out = forward();
  EXPECT_TRUE(test::close(out, file.tensor("output"), kTolerance));
  const Tensor loss = at::mse_loss(out, file.tensor("input.target"));
  EXPECT_TRUE(test::close(loss, file.tensor("loss"), kTolerance));
  loss.backward();
  size_t expected = 0;
  for (const auto& entry : file.entries()) expected += entry.name.starts_with("grad.") ? 1 : 0;
  EXPECT_EQ(expected, 2 * set.bound().size());
  for (const auto& bound : set.bound()) {
    const std::string name = "grad." + bound.path;
    EXPECT_TRUE(test::close(lora_at(bound).down.grad(), file.tensor(name + ".lora_A.weight"), kGradientTolerance)) << name;
    EXPECT_TRUE(test::close(lora_at(bound).up.grad(), file.tensor(name + ".lora_B.weight"), kGradientTolerance)) << name;
  }
}

TEST_P(LoraGolden, BakedWeightsAndTheirOutputAreThoseOfPeft) {
  const at::NoGradGuard no_grad;
  for (const auto& bound : set.bound()) {
    nn::Param& weight = unet->store.at(bound.leaf->weight->path);
    const Tensor baked = *bound.adapter->bake(weight.value);
    EXPECT_TRUE(test::close(baked, file.tensor("merged.param." + weight.path), kTolerance)) << weight.path;
    unet->store.assign(weight, baked);
  }
  EXPECT_TRUE(test::close(forward(), file.tensor("output.merged"), kTolerance));
}

TEST_P(LoraGolden, WithoutTheAdaptersAndAtStrengthZeroTheModelIsTheBase) {
  const at::NoGradGuard no_grad;
  const Tensor before = forward();
  EXPECT_TRUE(test::close(before, file.tensor("output.base"), kTolerance));
  {
    const adapters::ActiveAdapters active({{&set, 0.0}});
    EXPECT_TRUE(at::equal(forward(), before));
  }
  {
    const adapters::ActiveAdapters active({{&set, 1.0}});
    EXPECT_FALSE(test::close(forward(), before, 1e-2));
  }
  EXPECT_TRUE(at::equal(forward(), before));
}
INSTANTIATE_TEST_SUITE_P(Files, LoraGolden, ::testing::Values("lora_peft", "lora_peft_conv"));

TEST(LoraStartsGolden, BeginWherePeftBegins) {
  const io::SafetensorsFile file = test::golden_file("lora_starts");
  for (const std::string layer : {"wide", "high"}) {
    const Tensor weight = file.tensor(layer + ".weight");
    for (const auto& [init, name] : {std::pair(adapters::LoraInit::pissa, ".pissa"), std::pair(adapters::LoraInit::olora, ".olora")}) {
      nn::ParamStore store;
      const nn::Linear linear(nn::Scope(store) / "a", weight.size(1), weight.size(0), false);
      store.assign(store.at("a.weight"), weight.clone());
      adapters::AdapterConfig config;
      config.rank = 3;
      config.alpha = 6;
      config.init = init;
      config.targets = {"unet.a"};
      adapters::AdapterSet set = adapters::AdapterSet::create(config, {{"unet", &store}}, Rng(1));
      const auto& lora = lora_at(set.bound()[0]);
      // Not the factors: their signs are free.
      EXPECT_TRUE(test::close(lora.scale() * at::matmul(lora.up, lora.down), file.tensor(layer + name + ".update"), kTolerance));
      EXPECT_TRUE(test::close(store.at("a.weight").value, file.tensor(layer + name + ".rest"), kTolerance)) << layer << name;
    }
  }
}

}  // namespace
}  // namespace emulsion::weights
