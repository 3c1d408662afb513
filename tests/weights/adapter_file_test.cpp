// LoRA files in kohya's and diffusers' names, read and written, and files that fit no layer.
#include "weights/adapter_file.h"

#include "adapters/lora.h"
#include "adapters/weight_adapter.h"
#include "core/error.h"
#include "weights/tiny_model.h"

namespace emulsion::weights {
namespace {

using adapters::AdapterSet;
using test::expect_contains;

adapters::AdapterConfig config_of(std::vector<std::string> targets) {
  adapters::AdapterConfig config;
  config.rank = 3;
  config.alpha = 6;
  config.targets = std::move(targets);
  return config;
}

adapters::LoraAdapter& lora_of(const AdapterSet::Bound& bound) { return dynamic_cast<adapters::LoraAdapter&>(*bound.adapter); }

/// Adapters with random matrices on attention, convolutions and the text encoder of `model`.
AdapterSet random_set(models::Model& model) {
  const Rng rng(4);
  AdapterSet set = AdapterSet::create(
      config_of({"unet.*.to_*", "unet.*.conv1", "unet.*.proj_in", "text_encoder.*.q_proj", "text_encoder.*.fc1"}),
      model.components(), rng);
  uint64_t address = 0;
  for (auto& bound : set.bound()) {
    lora_of(bound).up = rng.normal(lora_of(bound).up.sizes(), Purpose::init, ++address);
  }
  return set;
}

void expect_same_adapters(const AdapterSet& a, const AdapterSet& b, double tolerance) {
  ASSERT_EQ(a.bound().size(), b.bound().size());
  std::map<std::string, const AdapterSet::Bound*> others;
  for (const auto& bound : b.bound()) others[bound.path] = &bound;
  for (const auto& bound : a.bound()) {
    ASSERT_TRUE(others.contains(bound.path)) << bound.path;
    const AdapterSet::Bound& other = *others[bound.path];
    EXPECT_EQ(bound.leaf, other.leaf);
    EXPECT_EQ(lora_of(bound).rank(), lora_of(other).rank());
    EXPECT_TRUE(at::equal(lora_of(bound).down, lora_of(other).down)) << bound.path;
    EXPECT_TRUE(test::close(lora_of(bound).up * lora_of(bound).scale(), lora_of(other).up * lora_of(other).scale(),
                            tolerance))
        << bound.path;
  }
}

TEST(AdapterFileTest, BothNamingsComeBackAsTheSameAdapters) {
  models::Model model = test::tiny_model();
  const AdapterSet set = random_set(model);
  for (const AdapterNaming naming : {AdapterNaming::kohya, AdapterNaming::diffusers}) {
    const test::TempFolder folder;
    save_adapter(folder / "a.safetensors", set, LayerNames(model), naming, {{"ss_seed", "7"}});
    expect_same_adapters(load_adapter(folder / "a.safetensors", model), set,
                         naming == AdapterNaming::kohya ? 0 : 1e-7);
    EXPECT_EQ(io::SafetensorsFile::open(folder / "a.safetensors").metadata().at("ss_seed"), "7");
  }
}

TEST(AdapterFileTest, NamesAreThoseOfTheField) {
  models::Model model = test::tiny_model();
  const AdapterSet set = random_set(model);
  const test::TempFolder folder;
  save_adapter(folder / "k.safetensors", set, LayerNames(model), AdapterNaming::kohya);
  const auto kohya = io::SafetensorsFile::open(folder / "k.safetensors");
  for (const char* name : {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0.lora_down.weight",
                           "lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight",
                           "lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha"}) {
    EXPECT_TRUE(kohya.contains(name)) << name;
  }
  EXPECT_EQ(kohya.tensor("lora_te_text_model_encoder_layers_0_mlp_fc1.alpha").item<float>(), 6);
  save_adapter(folder / "d.safetensors", set, LayerNames(model), AdapterNaming::diffusers);
  const auto diffusers = io::SafetensorsFile::open(folder / "d.safetensors");
  for (const char* name : {"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0.lora_A.weight",
                           "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight"}) {
    EXPECT_TRUE(diffusers.contains(name)) << name;
  }
}

class GoldenAdapters : public ::testing::TestWithParam<const char*> {};

// Keys as PEFT, diffusers and kohya's scripts name them, of one and the same adapters.
TEST_P(GoldenAdapters, EveryNamingOfTheFieldGivesTheSameAdapters) {
  const auto golden = test::golden_file(GetParam());
  models::Model model;
  model.unet = test::golden_unet();
  const test::TempFolder folder;
  std::map<std::string, AdapterSet> sets;
  for (const std::string naming : {"peft", "kohya", "diffusers"}) {
    const std::string prefix = "adapter." + naming + ".";
    NamedTensors tensors;
    for (const auto& entry : golden.entries()) {
      if (entry.name.starts_with(prefix)) {
        tensors.emplace_back(entry.name.substr(prefix.size()), golden.tensor(entry.name));
      }
    }
    if (tensors.empty()) continue;
    io::write_safetensors(folder / "lora.safetensors", tensors);
    sets.emplace(naming, load_adapter(folder / "lora.safetensors", model));
  }
  ASSERT_GE(sets.size(), 2u);
  const size_t count = std::string(GetParam()) == "lora_peft" ? 3 : 2;
  EXPECT_EQ(sets.size(), count);
  for (const auto& bound : sets.at("kohya").bound()) EXPECT_EQ(lora_of(bound).alpha, 8);
  // PEFT's and diffusers' files hold no alpha: it counts as the rank, 4; kohya's says 8.
  for (auto& [naming, set] : sets) {
    for (auto& bound : set.bound()) lora_of(bound).alpha = 8;
    expect_same_adapters(set, sets.at("kohya"), 0);
  }
}
INSTANTIATE_TEST_SUITE_P(Files, GoldenAdapters, ::testing::Values("lora_peft", "lora_peft_conv"));

std::string message_of(const NamedTensors& tensors, models::Model& model) {
  const test::TempFolder folder;
  io::write_safetensors(folder / "lora.safetensors", tensors);
  const std::string message =
      test::error_message([&] { load_adapter(folder / "lora.safetensors", model); });
  expect_contains(message, {(folder / "lora.safetensors").string()});
  return message;
}

TEST(AdapterFileTest, KeysThatFitNoLayerAreNamed) {
  models::Model model = test::tiny_model();
  const std::string good = "lora_unet_mid_block_attentions_0_proj_in";
  expect_contains(message_of({{good + ".lora_down.weight", at::zeros({2, 16, 1, 1})},
                              {good + ".lora_up.weight", at::zeros({16, 2, 1, 1})},
                              {good + ".somebody", at::zeros({2, 2})},
                              {"lora_unet_nowhere.lora_up.weight", at::zeros({2, 2})}},
                             model),
                  {"2 of 4 keys", good + ".somebody", "lora_unet_nowhere.lora_up.weight"});
}

struct OtherKind {
  const char* name;  // of a tensor
  std::vector<int64_t> shape;
  const char* what;
  const char* remedy;
};

class OtherAdapters : public ::testing::TestWithParam<OtherKind> {};

TEST_P(OtherAdapters, AreRefusedByName) {
  models::Model model = test::tiny_model();
  const std::string layer = "lora_unet_mid_block_attentions_0_proj_in";
  const OtherKind& kind = GetParam();
  const std::string name = kind.name[0] == '.' ? layer + kind.name : kind.name;
  // Beside it the tensors of a LoRA that fits, as LyCORIS mixes kinds in one file.
  expect_contains(message_of({{layer + ".lora_down.weight", at::zeros({2, 16, 1, 1})},
                              {layer + ".lora_up.weight", at::zeros({16, 2, 1, 1})},
                              {name, at::zeros(kind.shape)}},
                             model),
                  {fmt::format("expected a LoRA, got {}, as tensor '{}' shows; ", kind.what, name), kind.remedy});
}
INSTANTIATE_TEST_SUITE_P(
    Kinds, OtherAdapters,
    ::testing::Values(OtherKind{".oft_blocks", {2, 4, 4, 4}, "a BOFT", "merge"},
                      OtherKind{".oft_R.weight", {4, 6}, "an OFT", "merge"},
                      OtherKind{"unet.mid_block.attentions.0.proj_in.boft_R", {1, 4, 4, 4}, "a BOFT", "merge"},
                      OtherKind{".lora_A.0", {1, 16}, "a DyLoRA in training", "saved as a LoRA"},
                      OtherKind{"unet.x.vera_lambda_b", {16}, "a VeRA", "merge"},
                      OtherKind{"model.diffusion_model.input_blocks.0.0.weight", {8, 4, 3, 3}, "a whole model", "as MODEL"},
                      OtherKind{"emb_params", {2, 16}, "a textual inversion", "--embeddings"},
                      OtherKind{"lllite_unet_x.depth1.0.weight", {2, 2}, "a ControlNet-LLLite", "not built"},
                      OtherKind{"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", {2, 2}, "a LoRA for Flux",
                                "XL base are built"}));

TEST(AdapterFileTest, AFileOfAnotherArchitectureNamesTheLayerAndBothShapes) {
  models::Model model = test::tiny_model();
  const std::string name = "lora_unet_mid_block_attentions_0_proj_in";
  expect_contains(message_of({{name + ".lora_down.weight", at::zeros({2, 320, 1, 1})},
                              {name + ".lora_up.weight", at::zeros({320, 2, 1, 1})}},
                             model),
                  {"'mid_block.attentions.0.proj_in'", "[2, 16, 1, 1]", "[2, 320, 1, 1]", "another model"});
}

TEST(AdapterFileTest, HalfAnAdapterAndAnEmptyFileAreRefused) {
  models::Model model = test::tiny_model();
  const std::string name = "lora_unet_mid_block_attentions_0_proj_in";
  expect_contains(message_of({{name + ".lora_down.weight", at::zeros({2, 16, 1, 1})}}, model), {name, "lacks its up"});
  expect_contains(message_of({}, model), {"holds no tensors"});
}

TEST(AdapterFileTest, LinearMatricesOfAPointwiseConvolutionFitIt) {
  models::Model model = test::tiny_model();
  const std::string name = "lora_unet_mid_block_attentions_0_proj_in";
  const test::TempFolder folder;
  io::write_safetensors(folder / "lora.safetensors",
                        {{name + ".lora_down.weight", at::ones({2, 16})}, {name + ".lora_up.weight", at::ones({16, 2})}});
  const AdapterSet set = load_adapter(folder / "lora.safetensors", model);
  EXPECT_EQ(lora_of(set.bound()[0]).down.sizes(), (std::vector<int64_t>{2, 16, 1, 1}));
}

}  // namespace
}  // namespace emulsion::weights
