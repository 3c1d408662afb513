// Configs that no published model has, and every family's tiny twin, against diffusers and transformers.
//
// tools/golden/odd.py wrote the outputs; the weights are computed on both sides by the same formula. Tolerances by each
// tensor's largest value: outputs 1e-5 in float32; gradients 1e-6 in float64, so that it is rounding and nothing else that
// is left out (float32's would be 8e-5 in five levels); bfloat16 three times what diffusers' own bfloat16 is off on the
// same config, which is 0.6 to 8 percent.
#include <gtest/gtest.h>

#include <cmath>

#include "io/safetensors.h"
#include "models/clip_text.h"
#include "models/family.h"
#include "models/unet.h"
#include "models/vae.h"
#include "support/support.h"

namespace emulsion::models {
namespace {

constexpr double kOdd = 1e-5, kOddGradients = 1e-6;

const io::SafetensorsFile& odd_file() {
  static const auto kFile = io::SafetensorsFile::open(test::golden("odd.safetensors"));
  return kFile;
}

/// Names of the cases whose config stands in the metadata as "<kind>.<name>".
std::vector<std::string> odd_cases(const std::string& kind) {
  std::vector<std::string> names;
  for (const auto& [key, value] : odd_file().metadata()) {
    const std::string name = key.starts_with(kind + ".") ? key.substr(kind.size() + 1) : "";
    if (!name.empty() && name.find('.') == name.npos) names.push_back(name);
  }
  return names;
}

uint64_t fnv1a(const std::string& text) {
  uint64_t value = 0xcbf29ce484222325;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return value;
}

/// `formula` of tools/golden/odd.py: offset + scale * u, u uniform with variance 1.
Tensor by_formula(const std::string& name, at::IntArrayRef shape, double scale = 1, double offset = 0) {
  Tensor values = at::empty(shape, at::kDouble);
  double* out = values.mutable_data_ptr<double>();
  for (uint64_t i = 0, n = static_cast<uint64_t>(values.numel()); i < n; ++i) {
    uint64_t z = (i + fnv1a(name) + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    out[i] = offset + scale * ((static_cast<double>(z >> 40) / (1 << 24) - 0.5) * std::sqrt(12.0));
  }
  return values.to(at::kFloat);
}

/// `weigh` of tools/golden/odd.py.
void weigh(nn::ParamStore& store) {
  for (nn::Param& param : store.params()) {
    const bool table = param.path.ends_with("token_embedding.weight") || param.path.ends_with("position_embedding.weight");
    int64_t fan_in = 1;
    for (size_t i = 1; i < param.shape.size(); ++i) fan_in *= param.shape[i];
    if (table) {
      store.assign(param, by_formula(param.path, param.shape, 0.5));
    } else if (param.shape.size() > 1) {
      store.assign(param, by_formula(param.path, param.shape, std::pow(static_cast<double>(fan_in), -0.5)));
    } else {
      store.assign(param, by_formula(param.path, param.shape, 0.1, param.path.ends_with("weight") ? 1 : 0));
    }
  }
}

struct OddCase {
  std::string kind, name;

  std::string key(const std::string& what) const { return kind + "." + name + "." + what; }
  const std::string& config() const { return odd_file().metadata().at(kind + "." + name); }
  double bfloat16() const { return 3 * std::stod(odd_file().metadata().at(key("bfloat16"))); }
  ::testing::AssertionResult close(const Tensor& actual, const std::string& what, double tolerance = kOdd) const {
    return test::close(actual, odd_file().tensor(key(what)), tolerance);
  }
};

std::string name_of_case(const ::testing::TestParamInfo<std::string>& info) { return info.param; }

class OddUNet : public ::testing::TestWithParam<std::string> {
 protected:
  OddCase odd{"unet", GetParam()};
  nn::ParamStore store;
  UNet unet{nn::Scope(store), unet_config_from_json(odd.config(), "config.json")};

  Conditioning conditioning() const {
    const UNetConfig& config = unet.config();
    Conditioning c{.context = by_formula("input.context", {2, odd.name == "nine_channels" ? 154 : 7, config.cross_attention_dim})};
    if (config.time_cond_proj_dim > 0) c.guidance = by_formula("input.guidance", {2, config.time_cond_proj_dim});
    if (!config.text_time_conditioning) return c;
    c.pooled = by_formula("input.pooled", {2, config.pooled_dim()});
    c.size_ids = at::tensor({64.f, 96.f, 0.f, 0.f, 64.f, 96.f, 80.f, 64.f, 3.f, 5.f, 64.f, 96.f}).view({2, 6});
    return c;
  }
  Tensor sample() const {
    const auto size = odd_file().find(odd.key("output"))->shape;
    return by_formula("input.sample", {2, unet.config().in_channels, size[2], size[3]});
  }
  const Tensor timesteps = at::tensor({int64_t{7}, int64_t{801}});
};

TEST_P(OddUNet, GivesTheOutputOfDiffusers) {
  weigh(store);
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(odd.close(unet.forward(sample(), timesteps, conditioning()), "output"));
}

TEST_P(OddUNet, InFloat64GivesTheGradientsOfDiffusers) {
  weigh(store);
  store.convert(at::kDouble);
  Conditioning given = conditioning().to(at::kDouble);
  const Tensor x = sample().to(at::kDouble).set_requires_grad(true);
  given.context.set_requires_grad(true);
  const Tensor out = unet.forward(x, timesteps, given);
  (out * by_formula("input.target", out.sizes())).sum().backward();
  EXPECT_TRUE(odd.close(x.grad(), "gradient.sample", kOddGradients));
  EXPECT_TRUE(odd.close(given.context.grad(), "gradient.context", kOddGradients));
}

TEST_P(OddUNet, InBfloat16IsAsCloseAsDiffusersIs) {
  weigh(store);
  store.convert(at::kBFloat16);
  const at::NoGradGuard no_grad;
  const Tensor out = unet.forward(sample().to(at::kBFloat16), timesteps, conditioning().to(at::kBFloat16));
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(odd.close(out, "output", odd.bfloat16()));
  EXPECT_FALSE(odd.close(out, "output", 1e-4)) << "as good as float32: is bfloat16 used?";
}

TEST_P(OddUNet, ItsConfigSurvivesTheWayThroughJson) {
  EXPECT_EQ(unet_config_from_json(to_json(unet.config()), "config.json"), unet.config());
}
INSTANTIATE_TEST_SUITE_P(Cases, OddUNet, ::testing::ValuesIn(odd_cases("unet")), name_of_case);

class OddVae : public ::testing::TestWithParam<std::string> {};

TEST_P(OddVae, GivesTheMomentsAndPicturesOfDiffusers) {
  const OddCase odd{"vae", GetParam()};
  nn::ParamStore store;
  const Vae vae(nn::Scope(store), vae_config_from_json(odd.config(), "config.json"));
  weigh(store);
  const VaeConfig& config = vae.config();
  const Tensor pixels = by_formula("input.pixels", {2, config.in_channels, 16, 24}, 0.5);
  const Tensor latents = by_formula("input.latents", {2, config.latent_channels, 16 / config.factor(), 24 / config.factor()});
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(odd.close(vae.encode(pixels), "moments"));
  EXPECT_TRUE(odd.close(vae.decode(latents), "decoded"));
  store.convert(at::kBFloat16);
  EXPECT_TRUE(odd.close(vae.encode(pixels.to(at::kBFloat16)), "moments", odd.bfloat16()));
  EXPECT_TRUE(odd.close(vae.decode(latents.to(at::kBFloat16)), "decoded", odd.bfloat16()));
  EXPECT_EQ(vae_config_from_json(to_json(config), "config.json"), config);
}
INSTANTIATE_TEST_SUITE_P(Cases, OddVae, ::testing::ValuesIn(odd_cases("vae")), name_of_case);

class OddClip : public ::testing::TestWithParam<std::string> {};

TEST_P(OddClip, GivesTheStatesOfTransformers) {
  const OddCase odd{"clip", GetParam()};
  nn::ParamStore store;
  const ClipText clip(nn::Scope(store), clip_text_config_from_json(odd.config(), "config.json"));
  const Tensor ids = odd_file().tensor(odd.key("ids"));
  weigh(store);
  const at::NoGradGuard no_grad;
  for (const double tolerance : {kOdd, odd.bfloat16()}) {
    if (tolerance > kOdd) store.convert(at::kBFloat16);
    const TextStates states = clip.forward(ids);
    EXPECT_TRUE(odd.close(states.last, "last", tolerance));
    EXPECT_TRUE(odd.close(states.hidden[states.hidden.size() - 2], "penultimate", tolerance));
    EXPECT_TRUE(odd.close(states.pooled, "pooled", tolerance));
  }
  EXPECT_EQ(clip_text_config_from_json(to_json(clip.config()), "config.json"), clip.config());
}
INSTANTIATE_TEST_SUITE_P(Cases, OddClip, ::testing::ValuesIn(odd_cases("clip")), name_of_case);

TEST(OddTest, ThereAreTwentyOddConfigsAndATwinOfEveryFamily) {
  size_t odd = 0;
  for (const char* kind : {"unet", "vae", "clip"}) {
    for (const std::string& name : odd_cases(kind)) odd += name.starts_with("twin") ? 0 : 1;
  }
  EXPECT_GE(odd, 20u);
  for (const Family& family : families()) {
    UNetConfig theirs = unet_config_from_json(OddCase{"unet", "twin_" + family.id}.config(), "config.json");
    theirs.sample_size = tiny(family).unet.sample_size;  // no weight depends on it
    EXPECT_EQ(theirs, tiny(family).unet) << family.id;
  }
}

TEST(OddTest, DualCrossAttentionAndOtherWiringsAreRefusedByName) {
  const std::pair<const char*, const char*> options[] = {{"dual_cross_attention", "true"},
                                                         {"cross_attention_dim", "[8, 8]"},
                                                         {"encoder_hid_dim_type", R"("text_proj")"},
                                                         {"addition_embed_type", R"("image")"},
                                                         {"class_embed_type", R"("projection")"},
                                                         {"time_embedding_type", R"("fourier")"},
                                                         {"attention_type", R"("gated")"},
                                                         {"mid_block_type", R"("UNetMidBlock2DSimpleCrossAttn")"},
                                                         {"resnet_time_scale_shift", R"("ada_group")"}};
  for (const auto& [key, value] : options) {
    const std::string message = test::error_message(
        [&] { unet_config_from_json(fmt::format(R"({{"{}": {}}})", key, value), "unet/config.json"); });
    EXPECT_NE(message.find(fmt::format("[unet/config.json] '{}' is ", key)), std::string::npos) << message;
    EXPECT_NE(message.find("built"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace emulsion::models
