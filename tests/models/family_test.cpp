// The table of families: sizes known from elsewhere, tiny twins that keep the wiring, refusals.
#include "models/family.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "support/support.h"

namespace emulsion::models {
namespace {

struct Count {
  const char* family;
  int64_t unet, vae, text, text_2;
  size_t unet_tensors, text_tensors, text_2_tensors;
};

// Figures: computed from the published configs by the formulas of the layers, and those of transformers' and diffusers' models.
// The 9-channel ones have 5 x 9 x 320 weights more in conv_in.
const Count kCounts[] = {
    {"sd1", 859'520'964, 83'653'863, 123'060'480, 0, 686, 196, 0},
    {"sd1_inpaint", 859'520'964 + 14'400, 83'653'863, 123'060'480, 0, 686, 196, 0},
    {"sd2", 865'910'724, 83'653'863, 340'387'840, 0, 686, 372, 0},
    {"sd2_v", 865'910'724, 83'653'863, 340'387'840, 0, 686, 372, 0},
    {"sd2_inpaint", 865'910'724 + 14'400, 83'653'863, 340'387'840, 0, 686, 372, 0},
    {"sdxl", 2'567'463'684, 83'653'863, 123'060'480, 694'659'840, 1680, 196, 517},
};

TEST(FamilyTest, EveryPartHasTheKnownNumberOfWeightsAndNoneIsAllocated) {
  ASSERT_EQ(std::size(kCounts), families().size());
  for (const Count& count : kCounts) {
    const Model model = declare(find_family(count.family));
    EXPECT_EQ(model.unet->store.numel(), count.unet) << count.family;
    EXPECT_EQ(model.unet->store.params().size(), count.unet_tensors) << count.family;
    EXPECT_EQ(model.vae->store.numel(), count.vae) << count.family;
    EXPECT_EQ(model.vae->store.params().size(), 248U) << count.family;
    EXPECT_EQ(model.text_encoder->store.numel(), count.text) << count.family;
    EXPECT_EQ(model.text_encoder->store.params().size(), count.text_tensors) << count.family;
    ASSERT_EQ(model.text_encoder_2 != nullptr, count.text_2 > 0) << count.family;
    if (model.text_encoder_2) {
      EXPECT_EQ(model.text_encoder_2->store.numel(), count.text_2);
      EXPECT_EQ(model.text_encoder_2->store.params().size(), count.text_2_tensors);
    }
    for (const nn::Component& part : model.components()) {
      for (const nn::Param& param : part.store->params()) ASSERT_FALSE(param.value.defined()) << param.path;
    }
  }
}

TEST(FamilyTest, TextStatesAreAsWideAsTheCrossAttention) {
  for (const Family& row : families()) {
    for (const Family& family : {row, tiny(row)}) {
      const int64_t second = family.text_encoder_2 ? family.text_encoder_2->hidden_size : 0;
      EXPECT_EQ(family.text_encoder.hidden_size + second, family.unet.cross_attention_dim) << family.id;
      EXPECT_EQ(family.unet.pooled_dim(), family.text_encoder_2 ? family.text_encoder_2->projection_dim : 0) << family.id;
      EXPECT_EQ(family.unet.sample_size * family.vae.factor(), family.size) << family.id;
    }
  }
}

TEST(FamilyTest, ATinyTwinKeepsTheWiring) {
  for (const Family& row : families()) {
    const Family small = tiny(row);
    EXPECT_EQ(small.unet.down_block_types, row.unet.down_block_types);
    EXPECT_EQ(small.unet.up_block_types, row.unet.up_block_types);
    EXPECT_EQ(small.unet.in_channels, row.unet.in_channels);
    EXPECT_EQ(small.unet.use_linear_projection, row.unet.use_linear_projection);
    EXPECT_EQ(small.prediction, row.prediction);
    const Model model = new_model(small, Rng(1));
    EXPECT_LT(model.unet->store.numel(), 500'000) << row.id;
  }
}

TEST(FamilyTest, EveryConfigSurvivesTheWayThroughJson) {
  for (const Family& row : families()) {
    EXPECT_EQ(unet_config_from_json(to_json(row.unet), "config.json"), row.unet) << row.id;
    EXPECT_EQ(vae_config_from_json(to_json(row.vae), "config.json"), row.vae) << row.id;
    EXPECT_EQ(clip_text_config_from_json(to_json(row.text_encoder), "config.json"), row.text_encoder) << row.id;
    if (row.text_encoder_2) {
      EXPECT_EQ(clip_text_config_from_json(to_json(*row.text_encoder_2), "config.json"), *row.text_encoder_2);
    }
  }
}

TEST(FamilyTest, FamiliesThatAreNotBuiltAreRefusedByName) {
  for (const UnbuiltFamily& family : unbuilt_families()) {
    try {
      find_family(family.id);
      ADD_FAILURE() << family.id;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
      EXPECT_NE(std::string(error.what()).find(family.name), std::string::npos) << error.what();
    }
  }
  const std::string message = test::error_message([] { find_family("sd9"); });
  EXPECT_NE(message.find("'sd9'; there are: sd1, sd1_inpaint, sd2"), std::string::npos) << message;
}

}  // namespace
}  // namespace emulsion::models
