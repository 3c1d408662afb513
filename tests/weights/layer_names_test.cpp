// Names of layers in adapter files, by kohya's rules, at true size: declaring a model allocates nothing.
#include "weights/layer_names.h"

#include <algorithm>
#include <set>

#include "adapters/adapter_set.h"
#include "adapters/blocks.h"
#include "models/family.h"
#include "nn/pattern.h"
#include "support/support.h"

namespace emulsion::weights {
namespace {

models::Model declared(const char* family_id) { return models::declare(models::find_family(family_id)); }

/// kohya's names of what its networks.lora trains by default: linear layers and 1x1 convolutions of the transformers, and the
/// linear layers of the text models' blocks.
std::set<std::string> default_names(const models::Model& model) {
  const LayerNames names(model);
  std::set<std::string> all;
  for (const auto& [path, leaf] : adapters::leaves_of(model.components())) {
    if (leaf->kind == nn::LeafKind::norm) continue;
    const bool in_transformer = path.starts_with("unet.") && path.find("attentions") != path.npos;
    if (in_transformer || path.find(".encoder.layers.") != path.npos) all.insert(names.written(path, AdapterNaming::kohya));
  }
  return all;
}

size_t beginning_with(const std::set<std::string>& names, const std::string& prefix) {
  return std::count_if(names.begin(), names.end(), [&](const std::string& name) { return name.starts_with(prefix); });
}

TEST(LayerNamesTest, CountsAndNamesAreThoseOfKohyasScripts) {
  const auto sd1 = default_names(declared("sd1"));
  EXPECT_EQ(beginning_with(sd1, "lora_unet_"), 192u);
  EXPECT_EQ(beginning_with(sd1, "lora_te_text_model_encoder_layers_"), 72u);
  EXPECT_EQ(sd1.size(), 264u);
  for (const char* name : {"lora_unet_down_blocks_0_attentions_0_proj_in",
                           "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn1_to_out_0",
                           "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj",
                           "lora_te_text_model_encoder_layers_11_self_attn_q_proj", "lora_te_text_model_encoder_layers_0_mlp_fc2"}) {
    EXPECT_TRUE(sd1.contains(name)) << name;
  }
  const auto xl = default_names(declared("sdxl"));
  EXPECT_EQ(beginning_with(xl, "lora_unet_"), 722u);
  EXPECT_EQ(beginning_with(xl, "lora_te1_"), 72u);
  EXPECT_EQ(beginning_with(xl, "lora_te2_"), 192u);
  EXPECT_EQ(xl.size(), 986u);
  for (const char* name : {"lora_unet_input_blocks_4_1_proj_in", "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0",
                           "lora_unet_middle_block_1_transformer_blocks_9_ff_net_2",
                           "lora_unet_output_blocks_0_1_transformer_blocks_0_attn2_to_k",
                           "lora_te1_text_model_encoder_layers_11_self_attn_q_proj",
                           "lora_te2_text_model_encoder_layers_31_mlp_fc1"}) {
    EXPECT_TRUE(xl.contains(name)) << name;
  }
}

TEST(LayerNamesTest, ConvolutionsOfSdxlHaveTheNamesOfTheLdmLayout) {
  const models::Model xl = declared("sdxl");
  const LayerNames names(xl);
  const auto kohya = [&](const char* path) { return names.written(path, AdapterNaming::kohya); };
  EXPECT_EQ(kohya("unet.down_blocks.0.resnets.0.conv1"), "lora_unet_input_blocks_1_0_in_layers_2");
  EXPECT_EQ(kohya("unet.down_blocks.0.resnets.0.time_emb_proj"), "lora_unet_input_blocks_1_0_emb_layers_1");
  EXPECT_EQ(kohya("unet.down_blocks.0.resnets.0.norm1"), "lora_unet_input_blocks_1_0_in_layers_0");
  EXPECT_EQ(kohya("unet.down_blocks.0.downsamplers.0.conv"), "lora_unet_input_blocks_3_0_op");
  EXPECT_EQ(kohya("unet.up_blocks.0.upsamplers.0.conv"), "lora_unet_output_blocks_2_2_conv");
}

TEST(LayerNamesTest, BlocksAreThoseOfTheLdmLayout) {
  const models::Model xl = declared("sdxl");
  const LayerNames names(xl);
  std::set<std::string> seen;
  for (const auto& [path, leaf] : adapters::leaves_of({{"unet", &xl.unet->store}})) {
    const std::string name = names.written(path, AdapterNaming::kohya);
    std::string block;
    if (name.starts_with("lora_unet_input_blocks_")) block = "IN0" + name.substr(23, 1);
    if (name.starts_with("lora_unet_middle_block_")) block = "M00";
    if (name.starts_with("lora_unet_output_blocks_")) block = "OUT0" + name.substr(24, 1);
    for (const char* other : {"IN00", "IN01", "IN03", "IN04", "IN05", "IN06", "IN07", "IN08", "M00", "OUT00", "OUT02", "OUT05", "OUT08"}) {
      const auto patterns = adapters::block_patterns(other);
      const bool fits = std::ranges::any_of(patterns, [&](const auto& pattern) { return nn::glob_match(pattern, path); });
      EXPECT_EQ(fits, block == other) << path << " " << other;
      if (fits) seen.insert(other);
    }
  }
  EXPECT_EQ(seen.size(), 13u);
  for (const char* none : {"IN", "IN1", "OUT001", "M01", "unet.*"}) EXPECT_TRUE(adapters::block_patterns(none).empty()) << none;
}

TEST(LayerNamesTest, EveryNamingIsReadAndNoTwoLayersShareAName) {
  for (const char* family : {"sd1", "sd2", "sdxl"}) {
    const models::Model model = declared(family);
    const LayerNames names(model);
    std::set<std::string> seen;
    for (const auto& [path, leaf] : adapters::leaves_of(model.components())) {
      if (path.starts_with("vae.")) continue;
      const auto known = names.known(path);
      const std::set<std::string> own(known.begin(), known.end());
      EXPECT_TRUE(own.contains(names.written(path, AdapterNaming::kohya))) << path;
      EXPECT_TRUE(own.contains(names.written(path, AdapterNaming::diffusers))) << path;
      for (const std::string& name : own) EXPECT_TRUE(seen.insert(name).second) << name;
    }
    EXPECT_TRUE(seen.contains("lora_unet_down_blocks_1_attentions_0_proj_in"));
    EXPECT_TRUE(seen.contains("lora_unet_input_blocks_4_1_proj_in"));
    EXPECT_TRUE(seen.contains("oft_unet_input_blocks_4_1_proj_in"));
    EXPECT_TRUE(seen.contains("lora_te1_text_model_encoder_layers_0_self_attn_q_proj"));
  }
}

}  // namespace
}  // namespace emulsion::weights
