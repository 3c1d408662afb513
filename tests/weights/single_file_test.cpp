// Single files: every family there and back bit for bit, what the shapes of published files say, and the forms in which
// such files go around.
#include "weights/single_file.h"

#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "core/error.h"
#include "io/hash.h"
#include "models/family.h"
#include "weights/tiny_model.h"

namespace emulsion::weights {
namespace {

namespace fs = std::filesystem;
using models::find_family;
using models::Model;
using test::expect_contains;

Model tiny_family_model(const std::string& id) {
  Model model = models::new_model(models::tiny(find_family(id)), Rng(7));
  uint64_t address = 0;
  for (const nn::Component& part : model.components()) test::perturb(*part.store, Rng(8), address += 10000);
  return model;
}

void expect_same_weights(const Model& a, const Model& b) {
  const auto ours = a.components(), theirs = b.components();
  ASSERT_EQ(ours.size(), theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    ASSERT_EQ(ours[i].name, theirs[i].name);
    for (const nn::Param& param : ours[i].store->params()) {
      EXPECT_TRUE(at::equal(param.value, theirs[i].store->at(param.path).value)) << ours[i].name << " " << param.path;
    }
  }
}

class EveryFamily : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Ids, EveryFamily,
                         ::testing::Values("sd1", "sd1_inpaint", "sd2", "sd2_v", "sd2_inpaint", "sdxl"));

TEST_P(EveryFamily, ComesBackFromASingleFileBitForBit) {
  const test::TempFolder folder;
  const Model model = tiny_family_model(GetParam());
  save_single_file(folder / "model.safetensors", model, {.dtype = at::kFloat});
  const Model read = load_single_file(folder / "model.safetensors");
  expect_same_weights(model, read);
  EXPECT_EQ(read.unet->net.config(), model.unet->net.config());
  EXPECT_EQ(read.vae->net.config(), model.vae->net.config());
  EXPECT_EQ(read.text_encoder->net.config(), model.text_encoder->net.config());
  EXPECT_EQ(read.scheduler.prediction, model.scheduler.prediction);
  EXPECT_EQ(read.zeros_for_empty_prompt, model.zeros_for_empty_prompt);
  const std::string text = "An apple on a table";
  EXPECT_EQ(read.tokenizer->encode_padded(text), model.tokenizer->encode_padded(text));
}

// --- Files of true size: headers from the golden key lists, data a hole in the file ---------------------

struct Listed {
  std::string name;
  std::vector<int64_t> shape;
};

/// LDM names and shapes of keys_<part>.txt, each once, behind `prefix`.
void add_keys(std::vector<Listed>& all, const std::string& part, const std::string& prefix) {
  std::ifstream file(test::golden("keys_" + part + ".txt"));
  std::set<std::string> seen;
  for (std::string ours, our_shape, theirs, shape, how; file >> ours >> our_shape >> theirs >> shape >> how;) {
    if (!seen.insert(theirs).second) continue;
    Listed listed = {prefix + theirs, {}};
    std::istringstream sizes(shape);
    for (std::string size; std::getline(sizes, size, 'x');) listed.shape.push_back(std::stoll(size));
    all.push_back(listed);
  }
}

std::vector<Listed> published_keys(const std::string& id) {
  std::vector<Listed> all;
  const std::string unet = id == "sdxl" ? "unet_sdxl" : id.starts_with("sd2") ? "unet_sd2" : "unet_sd1";
  add_keys(all, unet, "model.diffusion_model.");
  add_keys(all, "vae", "first_stage_model.");
  if (id == "sdxl") {
    add_keys(all, "clip_l", "conditioner.embedders.0.transformer.");
    add_keys(all, "open_clip_bigg", "conditioner.embedders.1.model.");
  } else if (id.starts_with("sd2")) {
    add_keys(all, "open_clip_h", "cond_stage_model.model.");
  } else {
    add_keys(all, "clip_l", "cond_stage_model.transformer.");
  }
  for (Listed& listed : all) {
    if (id.ends_with("inpaint") && listed.name.ends_with("input_blocks.0.0.weight")) listed.shape[1] = 9;
  }
  return all;
}

/// A float16 file with these tensors, all zero, that takes no room on the disk.
void write_sparse(const fs::path& path, const std::vector<Listed>& all, const std::string& metadata = "") {
  std::string json = metadata.empty() ? "{" : "{\"__metadata__\":{" + metadata + "},";
  int64_t offset = 0;
  for (const Listed& listed : all) {
    int64_t end = offset + 2;
    for (const int64_t size : listed.shape) end = offset + (end - offset) * size;
    json += fmt::format("{}\"{}\":{{\"dtype\":\"F16\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", &listed == all.data() ? "" : ",",
                        listed.name, fmt::join(listed.shape, ","), offset, end);
    offset = end;
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  const uint64_t length = json.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), 8);
  file << json;
  file.close();
  fs::resize_file(path, 8 + json.size() + static_cast<uint64_t>(offset));
}

TEST_P(EveryFamily, IsToldFromTheShapesOfThePublishedFile) {
  const test::TempFolder folder;
  const std::string id = GetParam();
  const auto keys = published_keys(id);
  write_sparse(folder / "model.safetensors", keys, id == "sd2" ? "\"global_step\":\"875000\"" : "");
  LoadReport report;
  const DetectedModel found = detect_single_file(folder / "model.safetensors", {.report = &report});
  EXPECT_EQ(found.family, find_family(id)) << found.family.id;
  EXPECT_EQ(found.scheduler.prediction, find_family(id).prediction);
  EXPECT_EQ(found.parts.size(), id == "sdxl" ? 4u : 3u);
  ASSERT_GE(report.decisions.size(), 2u);
  EXPECT_EQ(report.decisions.back().what, find_family(id).name);
}

// Views of the one map lie in the order of the file, at the distances that its header says.
TEST(SingleFileTest, TensorsThatLieAsTheyAreNeededAreMappedNotCopied) {
  const test::TempFolder folder;
  write_sparse(folder / "model.safetensors", published_keys("sd1"));
  const auto file = io::SafetensorsFile::open(folder / "model.safetensors");
  const Model read =
      load_single_file(folder / "model.safetensors", {.dtype = at::ScalarType::Undefined, .parts = {"text_encoder"}});
  const std::string prefix = "cond_stage_model.transformer.text_model.";
  const auto& params = read.text_encoder->store.params();
  EXPECT_EQ(params.size(), 196u);
  const auto* const origin = static_cast<const char*>(params.front().value.const_data_ptr());
  const auto start = static_cast<int64_t>(file.find(prefix + params.front().path)->begin);
  for (const nn::Param& param : params) {
    EXPECT_EQ(param.value.scalar_type(), at::kHalf);
    const auto begin = static_cast<int64_t>(file.find(prefix + param.path)->begin);
    EXPECT_EQ(static_cast<const char*>(param.value.const_data_ptr()) - origin, begin - start) << param.path;
  }
  EXPECT_FALSE(read.unet || read.vae);
}

TEST(SingleFileTest, Sd2IsTakenForVPredictionUnlessSomethingSaysOtherwise) {
  const test::TempFolder folder;
  write_sparse(folder / "model.safetensors", published_keys("sd2"));
  const fs::path file = folder / "model.safetensors";
  EXPECT_EQ(detect_single_file(file).family.id, "sd2_v");
  EXPECT_EQ(detect_single_file(file, {.prediction = diffusion::Prediction::epsilon}).family, find_family("sd2"));
  EXPECT_EQ(detect_single_file(file, {.family = "sd2"}).scheduler.prediction, diffusion::Prediction::epsilon);
}

// --- Forms that go around ------------------------------------------------------------------------------

/// Writes a tiny model of the family with its tensors changed by `change`, and reads it with `options`.
Model reread(const std::string& id, const std::function<void(NamedTensors&)>& change, const LoadOptions& options = {}) {
  const test::TempFolder folder;
  const fs::path file = folder / "model.safetensors";
  save_single_file(file, tiny_family_model(id), {.dtype = at::kFloat});
  const auto opened = io::SafetensorsFile::open(file);
  NamedTensors tensors;
  for (const auto& [name, tensor] : opened.tensors()) tensors.emplace_back(name, tensor.clone());
  change(tensors);
  io::write_safetensors(file, tensors, opened.metadata());
  return load_single_file(file, options);
}

void rename(NamedTensors& all, const std::string& from, const std::string& to) {
  size_t renamed = 0;
  for (auto& [name, tensor] : all) {
    const size_t at = name.find(from);
    if (at == name.npos) continue;
    name.replace(at, from.size(), to);
    ++renamed;
  }
  EXPECT_GT(renamed, 0u) << from;
}

TEST(SingleFileTest, ClipMayStandWithoutItsPrefixAndWithItsPositions) {
  const Model model = tiny_family_model("sd1");
  expect_same_weights(model, reread("sd1", [](NamedTensors& all) { rename(all, "transformer.text_model.", "transformer."); }));
  expect_same_weights(model, reread("sd1", [](NamedTensors& all) {
                        all.emplace_back("cond_stage_model.transformer.text_model.embeddings.position_ids",
                                         at::arange(77).unsqueeze(0));
                      }));
}

TEST(SingleFileTest, TrainingBuffersAreIgnoredByNameAndOtherTensorsAreNamed) {
  LoadReport report;
  const Model read = reread("sd1", [](NamedTensors& all) {
    all.emplace_back("betas", at::ones({1000}, at::kDouble));
    all.emplace_back("model_ema.num_updates", at::zeros({}, at::kInt));
    all.emplace_back("somebody.elses", at::zeros({1}));
  }, {.report = &report});
  expect_same_weights(read, tiny_family_model("sd1"));
  EXPECT_EQ(report.ignored, (std::vector<std::string>{"betas", "model_ema.num_updates"}));
  EXPECT_EQ(report.unknown, (std::vector<std::string>{"somebody.elses"}));
}

TEST(SingleFileTest, EverythingMayLieWithinStateDict) {
  expect_same_weights(tiny_family_model("sdxl"), reread("sdxl", [](NamedTensors& all) {
    for (auto& [name, tensor] : all) name = "state_dict." + name;
    all.emplace_back("optimizer_states.0.state", at::zeros({1}));
  }));
}

TEST(SingleFileTest, AveragesAreTakenWhereAsked) {
  const auto add = [](NamedTensors& all) {
    NamedTensors averages;
    for (const auto& [name, tensor] : all) {
      if (!name.starts_with("model.diffusion_model.")) continue;
      std::string flat = name.substr(std::string_view("model.").size());
      std::erase(flat, '.');
      averages.emplace_back("model_ema." + flat, tensor + 1);
    }
    all.insert(all.end(), averages.begin(), averages.end());
  };
  const Model model = tiny_family_model("sd1");
  expect_same_weights(model, reread("sd1", add));
  const Model averaged = reread("sd1", add, {.ema = true});
  for (const nn::Param& param : model.unet->store.params()) {
    EXPECT_TRUE(at::equal(averaged.unet->store.at(param.path).value, param.value + 1)) << param.path;
  }
  expect_contains(test::error_message([&] { reread("sd1", [](NamedTensors&) {}, {.ema = true}); }),
                  {"model_ema.diffusion_modelinput_blocks00weight", "--ema"});
}

TEST(SingleFileTest, FlagKeysAreHonoured) {
  const Model read = reread("sdxl", [](NamedTensors& all) {
    all.emplace_back("v_pred", at::empty({0}));
    all.emplace_back("ztsnr", at::empty({0}));
  });
  EXPECT_EQ(read.scheduler.prediction, diffusion::Prediction::v_prediction);
  EXPECT_TRUE(read.scheduler.noise.zero_terminal_snr);
}

TEST(SingleFileTest, KohyasProjectionIsReadUntransposedWhereAsked) {
  const Model model = tiny_family_model("sdxl");
  const auto none = [](NamedTensors&) {};
  const Tensor ours = model.text_encoder_2->store.at("text_projection.weight").value;
  const Model read = reread("sdxl", none, {.kohya_text_projection = true});
  EXPECT_TRUE(at::equal(read.text_encoder_2->store.at("text_projection.weight").value, ours.t()));
}

TEST(SingleFileTest, PartsAndDtypeAreThoseAskedFor) {
  const Model read = reread("sd1", [](NamedTensors&) {}, {.dtype = at::kBFloat16, .parts = {"vae"}});
  EXPECT_TRUE(read.vae && !read.unet && !read.text_encoder);
  for (const nn::Param& param : read.vae->store.params()) {
    EXPECT_EQ(param.value.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(param.value.dim() != 4 || param.value.is_contiguous(at::MemoryFormat::ChannelsLast)) << param.path;
  }
}

TEST(SingleFileTest, AMissingTensorIsNamedAsTheFileNamesIt) {
  const auto drop = [](NamedTensors& all) {
    std::erase_if(all, [](auto& t) { return t.first == "model.diffusion_model.time_embed.2.bias"; });
  };
  expect_contains(test::error_message([&] { reread("sd1", drop); }),
                  {"loading unet", "1 missing: time_embed.2.bias", "0 unexpected"});
}

TEST(SingleFileTest, HeadersSayWhatTheFileIs) {
  const test::TempFolder folder;
  Model model = tiny_family_model("sdxl");
  model.scheduler.prediction = diffusion::Prediction::v_prediction;
  const fs::path file = folder / "model.safetensors";
  save_single_file(file, model, {.dtype = at::kHalf, .title = "Test"});
  const auto opened = io::SafetensorsFile::open(file);
  EXPECT_EQ(opened.metadata().at("modelspec.architecture"), "stable-diffusion-xl-v1-base");
  EXPECT_EQ(opened.metadata().at("modelspec.prediction_type"), "v");
  EXPECT_EQ(opened.metadata().at("modelspec.resolution"), "64x64");
  EXPECT_TRUE(opened.contains("v_pred"));
  std::string bytes(fs::file_size(file), '\0');
  std::ifstream(file, std::ios::binary).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(opened.metadata().at("modelspec.hash_sha256"), "0x" + io::sha256_hex(std::string_view(bytes).substr(8 + length)));
}

TEST(SingleFileTest, APartAloneComesBackFromAFileWithoutPrefixes) {
  const test::TempFolder folder;
  for (const std::string part : {"unet", "vae", "text_encoder"}) {
    Model model = tiny_family_model("sd2");
    if (part != "unet") model.unet.reset();
    if (part != "vae") model.vae.reset();
    if (part != "text_encoder") model.text_encoder.reset();
    const fs::path file = folder / (part + ".safetensors");
    save_single_file(file, model, {.dtype = at::kFloat, .bare = true});
    expect_same_weights(model, load_single_file(file));
    const char* sign = part == "unet"  ? "input_blocks.0.0.weight"
                       : part == "vae" ? "encoder.mid.attn_1.q.weight"
                                       : "text_model.final_layer_norm.weight";
    EXPECT_TRUE(io::SafetensorsFile::open(file).contains(sign)) << part;
  }
}

// --- Files that are something else ---------------------------------------------------------------------

std::string refusal(const NamedTensors& tensors, const LoadOptions& options = {}) {
  const test::TempFolder folder;
  io::write_safetensors(folder / "file.safetensors", tensors);
  const std::string message = test::error_message([&] { load_single_file(folder / "file.safetensors", options); });
  expect_contains(message, {"file.safetensors"});
  return message;
}

TEST(SingleFileTest, OtherFilesAreRefusedByWhatTheyAre) {
  const Tensor one = at::zeros({1, 1});
  expect_contains(refusal({{"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", one}}),
                  {"a LoRA", "lora_unet_mid_block", "--lora"});
  expect_contains(refusal({{"emb_params", one}}), {"a textual inversion"});
  expect_contains(refusal({{"control_model.input_blocks.0.0.weight", one}}), {"a ControlNet"});
  expect_contains(refusal({{"conditioner.embedders.0.model.ln_final.weight", one}}), {"Stable Diffusion XL refiner"});
  expect_contains(refusal({{"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", one}}), {"Stable Diffusion 3"});
  expect_contains(refusal({{"double_blocks.0.img_attn.qkv.weight", one}}), {"Flux"});
  expect_contains(refusal({{"somebody.elses", one}}), {"no known model", "somebody.elses"});
  expect_contains(refusal({}), {"none at all"});
}

TEST(SingleFileTest, OtherInputsOfTheUNetAreRefusedByName) {
  const auto widen = [](int64_t channels) {
    return [channels](NamedTensors& all) {
      for (auto& [name, tensor] : all) {
        if (name == "model.diffusion_model.input_blocks.0.0.weight") tensor = at::zeros({8, channels, 3, 3});
      }
    };
  };
  const auto message = [&](int64_t channels) { return test::error_message([&] { reread("sd2", widen(channels)); }); };
  expect_contains(message(5), {"Stable Diffusion 2 depth", "input_blocks.0.0.weight [8, 5, 3, 3]"});
  expect_contains(message(7), {"upscaler"});
  expect_contains(message(8), {"InstructPix2Pix"});
}

TEST(SingleFileTest, NumbersThatAreNoWeightsAreNamed) {
  const auto whole = [](NamedTensors& all) {
    for (auto& [name, tensor] : all) {
      if (name == "first_stage_model.encoder.conv_in.bias") tensor = tensor.to(at::kLong);
    }
  };
  expect_contains(test::error_message([&] { reread("sd1", whole); }),
                  {"first_stage_model.encoder.conv_in.bias", "floating-point", "Long"});
}

}  // namespace
}  // namespace emulsion::weights
