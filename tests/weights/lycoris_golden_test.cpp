// Every adapter kind on single layers against LyCORIS, and DoRA against PEFT: output, another strength, every gradient, float32.
//
// LyCORIS itself was up to 2e-6 of the largest value away from float64. Gradients of inverses (OFT) and of products of three
// factors round once more, hence 2e-5 for them.
#include <nlohmann/json.hpp>

#include "adapters/adapter_set.h"
#include "adapters/weight_adapter.h"
#include "core/error.h"
#include "nn/layers.h"
#include "weights/adapter_file.h"
#include "weights/tiny_model.h"

namespace emulsion::weights {
namespace {

using adapters::AdapterParts;
using adapters::WeightAdapter;

constexpr double kOutput = 5e-6, kGradient = 2e-5;

/// The layers of the script.
struct LyCorisLayers {
  nn::ParamStore store;
  nn::Scope root{store};
  nn::Linear linear{root / "linear", 24, 36};
  nn::Conv2d conv{root / "conv", 24, 36, 3, 2, 1};
  nn::Conv2d pointwise{root / "pointwise", 24, 36, 1};
  nn::LayerNorm layer_norm{root / "layer_norm", 24};
  nn::GroupNorm group_norm{root / "group_norm", 4, 24, 1e-5};

  Tensor forward(const std::string& name, const Tensor& x) const {
    if (name == "layer_norm") return layer_norm(x);
    if (name == "group_norm") return group_norm(x);
    return name == "linear" ? linear(x) : name == "conv" ? conv(x) : pointwise(x);
  }
};

std::map<std::string, std::string> golden_cases() {
  const auto json = nlohmann::json::parse(test::golden_file("lycoris").metadata().at("cases"));
  std::map<std::string, std::string> cases;
  for (const auto& [name, about] : json.items()) cases[name] = about["layer"];
  return cases;
}

/// PEFT's name as LyCORIS has it.
std::string lycoris_name(const std::string& name) {
  if (name == "lora_A.weight") return "lora_down.weight";
  if (name == "lora_B.weight") return "lora_up.weight";
  return name == "lora_magnitude_vector.weight" ? "dora_scale" : name;
}

TEST(LyCorisGolden, OutputsAndGradientsAreThoseOfTheReferences) {
  const auto file = test::golden_file("lycoris");
  const auto cases = golden_cases();
  ASSERT_GE(cases.size(), 29u);
  for (const auto& [name, layer] : cases) {
    SCOPED_TRACE(name);
    LyCorisLayers layers;
    layers.store.assign(layers.store.at(layer + ".weight"), file.tensor(name + ".weight").clone());
    layers.store.assign(layers.store.at(layer + ".bias"), file.tensor(name + ".bias").clone());
    nn::Leaf* leaf = layers.store.find_leaf(layer);
    NamedTensors parts;
    double alpha = 1;
    bool on_input = false;
    std::optional<adapters::Algorithm> algorithm;
    const std::string prefix = name + ".part.";
    for (const auto& entry : file.entries()) {
      if (!entry.name.starts_with(prefix)) continue;
      const std::string part = lycoris_name(entry.name.substr(prefix.size()));
      Tensor value = file.tensor(entry.name).clone();
      if (part == "alpha") {
        alpha = value.item<double>();
        continue;
      }
      if (part == "on_input") {
        on_input = value.item<int64_t>() != 0;
        continue;
      }
      if (part == "dora_scale" && name.starts_with("peft")) {
        std::vector<int64_t> shape(leaf->weight->shape.size(), 1);
        shape[0] = value.numel();
        value = value.reshape(shape);
      }
      if (!algorithm) algorithm = adapters::algorithm_of(part);
      parts.emplace_back(part, value);
    }
    ASSERT_TRUE(algorithm);
    adapters::AdapterSet set;
    set.add({"unet." + layer, leaf, std::make_unique<WeightAdapter>(*leaf, *algorithm, AdapterParts(parts), alpha, on_input)});
    adapters::Adapter& adapter = *set.bound()[0].adapter;
    for (const auto& part : adapter.parts()) part.tensor->set_requires_grad(true);
    const Tensor x = file.tensor(name + ".x");
    {
      const adapters::ActiveAdapters active({{&set, 1.0}});
      const Tensor y = layers.forward(layer, x);
      EXPECT_TRUE(test::close(y, file.tensor(name + ".y"), kOutput));
      (y * file.tensor(name + ".upstream")).sum().backward();
    }
    size_t gradients = 0;
    for (const auto& entry : file.entries()) {
      if (!entry.name.starts_with(name + ".grad.")) continue;
      const std::string part_name = lycoris_name(entry.name.substr(name.size() + 6));
      for (const auto& part : adapter.parts()) {
        if (part.name != part_name) continue;
        ++gradients;
        const Tensor expected = file.tensor(entry.name).reshape(part.tensor->sizes());
        EXPECT_TRUE(test::close(part.tensor->grad(), expected, kGradient)) << part_name;
      }
    }
    const bool without = name.find("dora") != std::string::npos && !name.starts_with("peft");
    EXPECT_EQ(gradients, without ? 0 : adapter.parts().size());
    const at::NoGradGuard no_grad;
    if (file.contains(name + ".y0.7")) {
      const adapters::ActiveAdapters active({{&set, 0.7}});
      EXPECT_TRUE(test::close(layers.forward(layer, x), file.tensor(name + ".y0.7"), kOutput));
    }
    const Tensor base = layers.forward(layer, x);
    EXPECT_FALSE(test::close(base, file.tensor(name + ".y"), 1e-2));
    const adapters::ActiveAdapters none({{&set, 0.0}});
    EXPECT_TRUE(at::equal(layers.forward(layer, x), base));
  }
}

/// Every kind as a run file would ask for it.
std::vector<adapters::AdapterConfig> configs() {
  std::vector<adapters::AdapterConfig> all;
  for (const auto& [algo, name] : enum_names(adapters::Algorithm{})) {
    adapters::AdapterConfig config;
    config.algo = algo;
    config.rank = 2;
    config.alpha = 3;
    config.targets = {"unet.*.attn*.to_*", "unet.*.conv1", "unet.*.proj_in", "text_encoder.*.q_proj"};
    if (algo == adapters::Algorithm::bias) config.targets = {"unet.*.conv1", "unet.*.attn*.to_out.0"};
    if (algo == adapters::Algorithm::norm) config.norms = {"unet.*.norm?", "unet.conv_norm_out", "text_encoder.*norm*"};
    all.push_back(config);
    if (algo == adapters::Algorithm::lora) {
      config.norms = {"unet.*.norm"};
      all.push_back(config);
      config.norms.clear();
    }
    if (algo != adapters::Algorithm::lora && algo != adapters::Algorithm::loha && algo != adapters::Algorithm::lokr) continue;
    config.dora = true;
    all.push_back(config);
    config.tucker = true;
    config.conv_rank = 3;
    all.push_back(config);
  }
  return all;
}

Tensor output_of(const models::Model& model) {
  const at::NoGradGuard no_grad;
  return model.unet->net.forward(at::ones({1, 4, 8, 8}), at::full({1}, 500), {.context = at::ones({1, 5, 16})});
}

TEST(AdapterKinds, AFreshOneChangesNothingAndAFileGivesItBack) {
  models::Model model = test::tiny_model();
  const Tensor base = output_of(model);
  for (const adapters::AdapterConfig& config : configs()) {
    SCOPED_TRACE(fmt::format("algo {}, dora {}, tucker {}", static_cast<int>(config.algo), config.dora, config.tucker));
    adapters::AdapterSet set = adapters::AdapterSet::create(config, model.components(), Rng(3));
    {
      const adapters::ActiveAdapters active({{&set, 1.0}});
      EXPECT_TRUE(test::close(output_of(model), base, 1e-6));  // DoRA divides by a norm and multiplies with it
    }
    uint64_t address = 0;
    for (const auto& bound : set.bound()) {
      for (const auto& part : bound.adapter->parts()) {
        *part.tensor = *part.tensor + 0.1 * Rng(5).normal(part.tensor->sizes(), Purpose::init, ++address);
      }
    }
    const test::TempFolder folder;
    save_adapter(folder / "a.safetensors", set, LayerNames(model), AdapterNaming::kohya);
    adapters::AdapterSet read = load_adapter(folder / "a.safetensors", model);
    const auto output = [&](adapters::AdapterSet& which) {
      const adapters::ActiveAdapters active({{&which, 1.0}});
      return output_of(model);
    };
    const Tensor expected = output(set);
    EXPECT_FALSE(test::close(expected, base, 1e-3));
    EXPECT_TRUE(at::equal(output(read), expected));
    EXPECT_EQ(read.numel(), set.numel());

    models::Model merged = test::tiny_model();
    adapters::bake(set, 1.0, merged.components());
    EXPECT_TRUE(test::close(output_of(merged), expected, 1e-5));
  }
}

TEST(AdapterKinds, DoraInDiffusersNamesComesBackAndOtherKindsAreRefused) {
  models::Model model = test::tiny_model();
  adapters::AdapterConfig config = configs()[2];
  ASSERT_TRUE(config.dora);
  adapters::AdapterSet set = adapters::AdapterSet::create(config, model.components(), Rng(3));
  for (const auto& bound : set.bound()) {
    for (const auto& part : bound.adapter->parts()) *part.tensor = *part.tensor + 0.1;
  }
  const test::TempFolder folder;
  save_adapter(folder / "a.safetensors", set, LayerNames(model), AdapterNaming::diffusers);
  EXPECT_TRUE(io::SafetensorsFile::open(folder / "a.safetensors")
                  .contains("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_magnitude_vector"));
  adapters::AdapterSet read = load_adapter(folder / "a.safetensors", model);
  const auto output = [&](adapters::AdapterSet& which) {
    const adapters::ActiveAdapters active({{&which, 1.0}});
    return output_of(model);
  };
  EXPECT_TRUE(test::close(output(read), output(set), 1e-5));  // alpha / rank is folded into one matrix
  config.dora = false;
  config.algo = adapters::Algorithm::loha;
  const adapters::AdapterSet loha = adapters::AdapterSet::create(config, model.components(), Rng(3));
  test::expect_contains(
      test::error_message([&] { save_adapter(folder / "b.safetensors", loha, LayerNames(model), AdapterNaming::diffusers); }),
      {"LoRA and DoRA only", "kohya"});
}

TEST(AdapterKinds, TensorsOfAnotherModelAreAShapeErrorThatNamesTheLayer) {
  models::Model model = test::tiny_model();
  const std::string layer = "lora_unet_mid_block_attentions_0_proj_in";
  const test::TempFolder folder;
  io::write_safetensors(folder / "a.safetensors", {{layer + ".hada_w1_a", at::zeros({16, 2})},
                                                   {layer + ".hada_w1_b", at::zeros({2, 20})},
                                                   {layer + ".hada_w2_a", at::zeros({16, 2})},
                                                   {layer + ".hada_w2_b", at::zeros({2, 20})}});
  test::expect_contains(test::error_message([&] { load_adapter(folder / "a.safetensors", model); }),
                        {"'mid_block.attentions.0.proj_in'", "[16, 16, 1, 1]", "hada_w1_b [2, 20]", "another model"});
  io::write_safetensors(folder / "b.safetensors", {{layer + ".hada_w1_a", at::zeros({16, 2})}});
  test::expect_contains(test::error_message([&] { load_adapter(folder / "b.safetensors", model); }), {"is missing", "b.safetensors"});
}

TEST(AdapterKinds, FactorizationIsThatOfLyCoris) {
  const auto pair = [](int64_t a, int64_t b) { return std::pair(a, b); };
  EXPECT_EQ(adapters::factorization(320, -1), pair(16, 20));
  EXPECT_EQ(adapters::factorization(768, -1), pair(24, 32));
  EXPECT_EQ(adapters::factorization(1280, -1), pair(32, 40));
  EXPECT_EQ(adapters::factorization(127, -1), pair(1, 127));
  EXPECT_EQ(adapters::factorization(360, 4), pair(4, 90));
  EXPECT_EQ(adapters::factorization(250, 4), pair(2, 125));  // 4 does not divide it
  EXPECT_EQ(adapters::factorization(128, 16), pair(8, 16));
}

}  // namespace
}  // namespace emulsion::weights
