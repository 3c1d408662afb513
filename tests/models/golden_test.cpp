// U-Net, autoencoder and text encoder against diffusers and transformers: outputs, loss, and every gradient.
//
// Tolerance in float32: 1e-5 of each tensor's largest value for outputs and losses; 2e-5 for gradients, which pass twice as
// many sums (n terms in another order differ by about sqrt(n) * 6e-8; diffusers' own float32 gradients are up to 2.7e-5
// from its float64 ones). The same code in float64 has to be within 1e-6, so that it is rounding and nothing else.
#include <gtest/gtest.h>

#include "core/error.h"
#include "io/safetensors.h"
#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae.h"
#include "support/support.h"

namespace emulsion::models {
namespace {

constexpr double kTolerance = 1e-5;
constexpr double kGradients = 2e-5;

/// What stands before a text encoder's names in the file.
std::string text_model_prefix(const io::SafetensorsFile& file) {
  return file.contains("param.text_model.final_layer_norm.weight") ? "text_model." : "";
}

/// `inner` stands before every name but that of the projection.
std::string file_name(const std::string& prefix, const std::string& inner, const std::string& path) {
  return path.starts_with("text_projection.") ? prefix + path : prefix + inner + path;
}

/// Fills the store from the golden file's `param.` tensors and asks for gradients.
void load_params(nn::ParamStore& store, const io::SafetensorsFile& file, const std::string& prefix = "param.",
                 const std::string& inner = "") {
  for (nn::Param& param : store.params()) {
    const std::string name = file_name(prefix, inner, param.path);
    ASSERT_TRUE(file.contains(name)) << name;
    store.assign(param, file.tensor(name).clone());
  }
  store.set_requires_grad(true);
}

/// Gradients that are zero in exact arithmetic (a key's bias shifts all logits of a query alike): both sides hold
/// rounding noise, so only its smallness is compared.
bool is_zero_by_symmetry(const io::SafetensorsFile& file, const std::string& name) {
  const auto found = file.metadata().find("zero_by_symmetry");
  return found != file.metadata().end() && found->second.find("\"" + name + "\"") != std::string::npos;
}

/// Compares every gradient; the file has to hold none that we lack.
void expect_gradients(const nn::ParamStore& store, const io::SafetensorsFile& file, const std::string& prefix,
                      double tolerance = kGradients, const std::string& inner = "") {
  size_t expected = 0;
  for (const auto& entry : file.entries()) expected += entry.name.starts_with(prefix) && !entry.name.starts_with("grad.input.");
  EXPECT_EQ(expected, store.params().size());
  for (const nn::Param& param : store.params()) {
    ASSERT_TRUE(param.value.grad().defined()) << param.path;
    const std::string name = file_name(prefix, inner, param.path);
    if (is_zero_by_symmetry(file, name) || is_zero_by_symmetry(file, name.substr(5))) {
      EXPECT_LT(param.value.grad().abs().max().item<double>(), 1e-7) << param.path;
    } else {
      EXPECT_TRUE(test::close(param.value.grad(), file.tensor(name), tolerance)) << param.path;
    }
  }
}

class UNetGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(UNetGolden, OutputLossAndEveryGradientAreThoseOfDiffusers) {
  const auto file = io::SafetensorsFile::open(test::golden(std::string("unet_") + GetParam() + ".safetensors"));
  nn::ParamStore store;
  const UNet unet(nn::Scope(store), unet_config_from_json(file.metadata().at("config"), "config.json"));
  load_params(store, file);
  const Tensor x = file.tensor("input.sample").clone().set_requires_grad(true);
  Conditioning conditioning{.context = file.tensor("input.context").clone().set_requires_grad(true)};
  if (file.contains("input.pooled")) {
    conditioning.pooled = file.tensor("input.pooled");
    conditioning.size_ids = file.tensor("input.size_ids");
  }
  const Tensor out = unet.forward(x, file.tensor("input.timestep"), conditioning);
  EXPECT_TRUE(test::close(out, file.tensor("output"), kTolerance));
  const Tensor loss = at::mse_loss(out, file.tensor("input.target"));
  EXPECT_TRUE(test::close(loss, file.tensor("loss"), kTolerance));
  loss.backward();
  expect_gradients(store, file, "grad.");
  EXPECT_TRUE(test::close(x.grad(), file.tensor("grad.input.sample"), kTolerance));
  EXPECT_TRUE(test::close(conditioning.context.grad(), file.tensor("grad.input.context"), kTolerance));
}
INSTANTIATE_TEST_SUITE_P(Variants, UNetGolden, ::testing::Values("sd1", "sd2", "quickstart", "sdxl"));

TEST_P(UNetGolden, InFloat64EveryGradientIsWithinAMillionth) {
  const auto file = io::SafetensorsFile::open(test::golden(std::string("unet_") + GetParam() + ".safetensors"));
  nn::ParamStore store;
  const UNet unet(nn::Scope(store), unet_config_from_json(file.metadata().at("config"), "config.json"));
  load_params(store, file);
  store.convert(at::kDouble);
  store.set_requires_grad(true);
  Conditioning conditioning{.context = file.tensor("input.context").to(at::kDouble)};
  if (file.contains("input.pooled")) {
    conditioning.pooled = file.tensor("input.pooled").to(at::kDouble);
    conditioning.size_ids = file.tensor("input.size_ids");
  }
  const Tensor out = unet.forward(file.tensor("input.sample").to(at::kDouble), file.tensor("input.timestep"), conditioning);
  at::mse_loss(out, file.tensor("input.target").to(at::kDouble)).backward();
  expect_gradients(store, file, "grad.", 1e-6);
}

TEST(UNetTest, SidesThatDoNotHalveEvenlyGiveTheOutputOfDiffusers) {
  const auto file = io::SafetensorsFile::open(test::golden("unet_sd2.safetensors"));
  nn::ParamStore store;
  const UNet unet(nn::Scope(store), unet_config_from_json(file.metadata().at("config"), "config.json"));
  load_params(store, file);
  const Tensor out = unet.forward(file.tensor("odd.input.sample"), file.tensor("input.timestep"),
                                  {.context = file.tensor("input.context")});
  EXPECT_TRUE(test::close(out, file.tensor("odd.output"), kTolerance));
}

class VaeGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(VaeGolden, MomentsDecodingLossAndEveryGradientAreThoseOfDiffusers) {
  const auto file = io::SafetensorsFile::open(test::golden(std::string("vae_") + GetParam() + ".safetensors"));
  nn::ParamStore store;
  const Vae vae(nn::Scope(store), vae_config_from_json(file.metadata().at("config"), "config.json"));
  load_params(store, file);
  const Tensor pixels = file.tensor("input.pixels");
  const Tensor moments = vae.encode(pixels);
  EXPECT_TRUE(test::close(moments, file.tensor("output.moments"), kTolerance));
  const Posterior posterior(moments);
  const Tensor latent = posterior.sample(file.tensor("input.eps"));
  EXPECT_TRUE(test::close(latent, file.tensor("output.latent"), kTolerance));
  const Tensor decoded = vae.decode(latent);
  EXPECT_TRUE(test::close(decoded, file.tensor("output.decoded"), kTolerance));
  const Tensor loss = at::mse_loss(decoded, pixels) + 1e-6 * posterior.kl();
  EXPECT_TRUE(test::close(loss, file.tensor("loss"), kTolerance));
  loss.backward();
  expect_gradients(store, file, "grad.");
}
INSTANTIATE_TEST_SUITE_P(Variants, VaeGolden, ::testing::Values("sd", "noattn"));

class ClipGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(ClipGolden, StatesLossAndEveryGradientAreThoseOfTransformers) {
  const auto file = io::SafetensorsFile::open(test::golden(std::string("clip_") + GetParam() + ".safetensors"));
  nn::ParamStore store;
  const ClipText clip(nn::Scope(store), clip_text_config_from_json(file.metadata().at("config"), "config.json"));
  load_params(store, file, "param.", text_model_prefix(file));
  const TextStates states = clip.forward(file.tensor("input.input_ids"));
  EXPECT_TRUE(test::close(states.last, file.tensor("output.last_hidden_state"), kTolerance));
  EXPECT_TRUE(test::close(states.hidden[states.hidden.size() - 2], file.tensor("output.penultimate"), kTolerance));
  EXPECT_TRUE(test::close(states.pooled, file.tensor("output.pooled"), kTolerance));
  Tensor loss = (states.last * file.tensor("input.weight")).mean();
  if (file.contains("input.pooled_weight")) loss = loss + (states.pooled * file.tensor("input.pooled_weight")).mean();
  EXPECT_TRUE(test::close(loss, file.tensor("loss"), kTolerance));
  loss.backward();
  expect_gradients(store, file, "grad.", kGradients, text_model_prefix(file));
}
INSTANTIATE_TEST_SUITE_P(Variants, ClipGolden, ::testing::Values("quickgelu", "gelu", "projection"));

TEST(ModelConfigTest, ConfigsSurviveTheWayThroughJson) {
  for (const char* variant : {"sd1", "sd2", "quickstart", "sdxl"}) {
    const auto file = io::SafetensorsFile::open(test::golden(std::string("unet_") + variant + ".safetensors"));
    const UNetConfig config = unet_config_from_json(file.metadata().at("config"), "config.json");
    EXPECT_EQ(unet_config_from_json(to_json(config), "config.json"), config) << variant;
  }
}

TEST(ModelConfigTest, OptionsThatAreNotBuiltAreRefusedByName) {
  const std::string message = test::error_message(
      [] { unet_config_from_json(R"({"class_embed_type": "timestep"})", "unet/config.json"); });
  EXPECT_NE(message.find("[unet/config.json] 'class_embed_type' is \"timestep\""), std::string::npos) << message;
}

TEST(ModelConfigTest, ANumberThatIsNotWholeIsRefusedByName) {
  for (const char* value : {"2.5", "1e20", "[2, 109223372036854775807, 2, 2]", "18446744073709551615", "true", "\"2\""}) {
    for (const char* key : {"layers_per_block", "attention_head_dim", "transformer_layers_per_block"}) {
      const std::string message = test::error_message(
          [&] { unet_config_from_json(fmt::format(R"({{"{}": {}}})", key, value), "unet/config.json"); });
      EXPECT_NE(message.find(fmt::format("[unet/config.json] '{}' is ", key)), std::string::npos) << value << ": " << message;
    }
  }
}

TEST(UNetTest, ContextOfAnotherModelIsAShapeError) {
  const auto file = io::SafetensorsFile::open(test::golden("unet_sd1.safetensors"));
  nn::ParamStore store;
  const UNet unet(nn::Scope(store), unet_config_from_json(file.metadata().at("config"), "config.json"));
  load_params(store, file);
  const std::string message = test::error_message([&] {
    unet.forward(file.tensor("input.sample"), file.tensor("input.timestep"),
                 {.context = at::zeros({2, 77, 999})});
  });
  EXPECT_NE(message.find("expected text states [2, L, 24], got [2, 77, 999]"), std::string::npos) << message;
}

}  // namespace
}  // namespace emulsion::models
