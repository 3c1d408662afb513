// Name rules against complete lists of the published models' tensors, made with diffusers' own converters, and the
// transforms there and back.
#include "weights/name_rules.h"

#include <fstream>
#include <set>

#include "core/error.h"
#include "models/family.h"
#include "weights/tiny_model.h"

namespace emulsion::weights {
namespace {

using models::find_family;

std::string shape_text(const std::vector<int64_t>& shape) { return fmt::format("{}", fmt::join(shape, "x")); }

/// As keys_*.txt has it: names and shapes on both sides, and how one lies in the other.
std::set<std::string> lines_of(const NameRules& rules) {
  const std::map<Transform, const char*> how = {{Transform::none, "="},          {Transform::conv1x1_as_linear, "="},
                                                {Transform::transpose, "T"},     {Transform::rows_1_of_3, "1/3"},
                                                {Transform::rows_2_of_3, "2/3"}, {Transform::rows_3_of_3, "3/3"}};
  std::set<std::string> lines;
  for (const NameRule& rule : rules) {
    lines.insert(fmt::format("{} {} {} {} {}", rule.canonical, shape_text(rule.shape), rule.foreign,
                             shape_text(rule.foreign_shape()), how.at(rule.transform)));
  }
  EXPECT_EQ(lines.size(), rules.size());
  return lines;
}

std::set<std::string> golden_lines(const std::string& name) {
  std::ifstream file(test::golden("keys_" + name + ".txt"));
  EXPECT_TRUE(file) << name;
  std::set<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.insert(line);
  return lines;
}

void expect_bijection(const NameRules& rules, const std::string& golden, size_t tensors) {
  const auto ours = lines_of(rules), theirs = golden_lines(golden);
  EXPECT_EQ(rules.size(), tensors) << golden;
  std::vector<std::string> only_ours, only_theirs;
  std::set_difference(ours.begin(), ours.end(), theirs.begin(), theirs.end(), std::back_inserter(only_ours));
  std::set_difference(theirs.begin(), theirs.end(), ours.begin(), ours.end(), std::back_inserter(only_theirs));
  EXPECT_TRUE(only_ours.empty()) << golden << ": " << only_ours.size() << " wrong, as " << only_ours.front();
  EXPECT_TRUE(only_theirs.empty()) << golden << ": " << only_theirs.size() << " lacking, as " << only_theirs.front();
}

// Counts: those of the models' state dicts, known from their configurations.
TEST(NameRulesTest, LdmNamesOfTheUNetsAreABijectionOntoThePublishedModels) {
  expect_bijection(ldm_names(find_family("sd1").unet), "unet_sd1", 686);
  expect_bijection(ldm_names(find_family("sd2").unet), "unet_sd2", 686);
  expect_bijection(ldm_names(find_family("sd2_v").unet), "unet_sd2", 686);
  expect_bijection(ldm_names(find_family("sdxl").unet), "unet_sdxl", 1680);
}

TEST(NameRulesTest, LdmNamesOfTheAutoencoderAreABijectionOntoThePublishedOnes) {
  for (const models::Family& family : models::families()) expect_bijection(ldm_names(family.vae), "vae", 248);
}

TEST(NameRulesTest, NamesOfTheTextEncodersAreABijectionOntoThePublishedOnes) {
  expect_bijection(prefixed_clip_names(find_family("sd1").text_encoder), "clip_l", 196);
  expect_bijection(prefixed_clip_names(find_family("sdxl").text_encoder), "clip_l", 196);
  expect_bijection(open_clip_names(find_family("sd2").text_encoder), "open_clip_h", 372);
  expect_bijection(open_clip_names(*find_family("sdxl").text_encoder_2), "open_clip_bigg", 517);
}

TEST(NameRulesTest, AnInpaintingModelDiffersFromItsFamilyInOneTensor) {
  for (const std::string id : {"sd1", "sd2"}) {
    const auto plain = lines_of(ldm_names(find_family(id).unet));
    const auto inpaint = lines_of(ldm_names(find_family(id + "_inpaint").unet));
    std::vector<std::string> other;
    std::set_difference(inpaint.begin(), inpaint.end(), plain.begin(), plain.end(), std::back_inserter(other));
    EXPECT_EQ(other, (std::vector<std::string>{"conv_in.weight 320x9x3x3 input_blocks.0.0.weight 320x9x3x3 ="}));
  }
}

TEST(NameRulesTest, EveryTransformComesBackBitForBit) {
  const Tensor w = Rng(3).normal({6, 4}, Purpose::init, 1);
  for (const Transform transform : {Transform::none, Transform::conv1x1_as_linear, Transform::transpose}) {
    const NameRule rule = {"a", "b", transform, {6, 4}};
    const Tensor foreign = to_foreign(transform, {w});
    EXPECT_EQ(foreign.sizes(), at::IntArrayRef(rule.foreign_shape()));
    EXPECT_TRUE(at::equal(to_canonical(rule, foreign), w));
  }
  const std::vector<Tensor> three = {w, w + 1, w + 2};
  const Tensor joined = to_foreign(Transform::rows_1_of_3, three);
  const Transform thirds[] = {Transform::rows_1_of_3, Transform::rows_2_of_3, Transform::rows_3_of_3};
  for (size_t i = 0; i < 3; ++i) {
    const NameRule rule = {"a", "b", thirds[i], {6, 4}};
    EXPECT_EQ(joined.sizes(), at::IntArrayRef(rule.foreign_shape()));
    EXPECT_TRUE(at::equal(to_canonical(rule, joined), three[i]));
    EXPECT_TRUE(to_canonical(rule, joined).is_alias_of(joined));
  }
}

TEST(NameRulesTest, OldNamesOfTheAutoencodersAttentionAreThoseThatDiffusersFirstHad) {
  std::set<std::string> names;
  for (const NameRule& rule : old_diffusers_names(find_family("sd1").vae)) names.insert(rule.foreign);
  EXPECT_EQ(names.size(), 248u);
  for (const std::string side : {"encoder", "decoder"}) {
    for (const char* name : {"query.weight", "key.bias", "value.weight", "proj_attn.weight", "group_norm.weight"}) {
      EXPECT_TRUE(names.contains(side + ".mid_block.attentions.0." + name)) << name;
    }
  }
}

TEST(NameRulesTest, KohyasProjectionIsTheSameTensorWithoutTheTranspose) {
  const auto config = *find_family("sdxl").text_encoder_2;
  EXPECT_EQ(open_clip_names(config, true).back().transform, Transform::transpose);
  EXPECT_EQ(open_clip_names(config, false).back().transform, Transform::none);
  EXPECT_EQ(open_clip_names(config, false).back().foreign, "text_projection");
}

TEST(NameRulesTest, ATensorWithoutANameInTheLayoutIsRefusedByName) {
  models::UNetConfig config = models::tiny(find_family("sd1")).unet;
  config.time_cond_proj_dim = 4;
  test::expect_contains(test::error_message([&] { ldm_names(config); }), {"time_embedding.cond_proj.weight", "diffusers"});
}

}  // namespace
}  // namespace emulsion::weights
