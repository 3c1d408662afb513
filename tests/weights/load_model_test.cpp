// Folders as they are found in the wild, parts that are missing or of another model, and autoencoders put in by hand.
#include "weights/load_model.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/atomic_file.h"
#include "models/family.h"
#include "weights/model_folder.h"
#include "weights/single_file.h"
#include "weights/tiny_model.h"

namespace emulsion::weights {
namespace {

namespace fs = std::filesystem;
using models::Model;
using test::expect_contains;

Model twin(const std::string& id, uint64_t seed = 7) {
  return models::new_model(models::tiny(models::find_family(id)), Rng(seed));
}

void expect_equal_parts(const nn::ParamStore& a, nn::ParamStore& b) {
  for (const nn::Param& param : a.params()) EXPECT_TRUE(at::equal(param.value, b.at(param.path).value)) << param.path;
}

/// A tiny model in a folder, to be changed by tests.
class WildFolder : public ::testing::Test {
 protected:
  void SetUp() override { save_model_folder(path, model); }
  fs::path weights(const std::string& part) const {
    const char* name = part.starts_with("text") ? "model.safetensors" : "diffusion_pytorch_model.safetensors";
    return path / part / name;
  }
  std::string message(const LoadOptions& options = {}) const {
    return test::error_message([&] { load_model(path, options); });
  }

  test::TempFolder folder;
  fs::path path = folder / "model";
  Model model = twin("sdxl");
};

TEST_F(WildFolder, AVariantIsReadWhereAskedForAndWhereItIsAllThereIs) {
  const fs::path half = path / "unet" / "diffusion_pytorch_model.fp16.safetensors";
  fs::copy_file(weights("unet"), half);
  io::write_safetensors(weights("unet"), {{"conv_in.weight", at::zeros({1})}});
  expect_equal_parts(model.unet->store, load_model(path, {.parts = {"unet"}, .variant = "fp16"}).unet->store);
  expect_contains(message(), {"missing"});  // the plain file is preferred
  fs::remove(weights("unet"));
  expect_equal_parts(model.unet->store, load_model(path).unet->store);
  fs::copy_file(half, path / "unet" / "diffusion_pytorch_model.non_ema.safetensors");
  expect_contains(message(), {"fp16, non_ema", "--variant"});
}

TEST_F(WildFolder, ShardsAreReadThroughTheirIndex) {
  NamedTensors halves[2];
  nlohmann::json index = {{"metadata", nlohmann::json::object()}, {"weight_map", nlohmann::json::object()}};
  const auto file = io::SafetensorsFile::open(weights("unet"));
  for (size_t i = 0; const auto& [name, tensor] : file.tensors()) {
    halves[i % 2].emplace_back(name, tensor.clone());
    index["weight_map"][name] = fmt::format("diffusion_pytorch_model-0000{}-of-00002.safetensors", i++ % 2 + 1);
  }
  for (int i = 0; i < 2; ++i) {
    io::write_safetensors(path / "unet" / fmt::format("diffusion_pytorch_model-0000{}-of-00002.safetensors", i + 1), halves[i]);
  }
  fs::remove(weights("unet"));
  std::ofstream(weights("unet").string() + ".index.json") << index.dump();
  expect_equal_parts(model.unet->store, load_model(path).unet->store);
  // The same set as a variant.
  fs::rename(weights("unet").string() + ".index.json", weights("unet").string() + ".index.fp16.json");
  expect_equal_parts(model.unet->store, load_model(path, {.parts = {"unet"}, .variant = "fp16"}).unet->store);
  expect_equal_parts(model.unet->store, load_model(path).unet->store);
  const fs::path second = path / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors";
  fs::resize_file(second, fs::file_size(second) / 2);  // half downloaded
  expect_contains(message(), {second.string()});
  fs::remove(second);
  expect_contains(message(), {"1 missing: diffusion_pytorch_model-00002-of-00002.safetensors", "fetch"});
}

TEST_F(WildFolder, OldNamesOfTheAutoencodersAttentionAreRead) {
  NamedTensors old;
  const auto file = io::SafetensorsFile::open(weights("vae"));
  for (auto [name, tensor] : file.tensors()) {
    for (const auto& [to, from] : {std::pair("query", "to_q"), {"key", "to_k"}, {"value", "to_v"}, {"proj_attn", "to_out.0"}}) {
      const size_t at = name.find(std::string(".") + from + ".");
      if (at != name.npos) name.replace(at + 1, std::string_view(from).size(), to);
    }
    old.emplace_back(name, tensor.clone());
  }
  io::write_safetensors(weights("vae"), old);
  expect_equal_parts(model.vae->store, load_model(path).vae->store);
}

TEST_F(WildFolder, AMissingPartIsReportedAndTheOthersAreRead) {
  fs::remove_all(path / "unet");
  LoadReport report;
  const Model read = load_model(path, {.report = &report});
  EXPECT_EQ(report.lacking, (std::vector<std::string>{"unet"}));
  EXPECT_TRUE(read.vae && read.text_encoder && read.text_encoder_2 && !read.unet);
  expect_contains(test::error_message([&] { read.need_unet("drawing"); }), {"'unet' is missing, which drawing needs"});
}

TEST_F(WildFolder, FilesThatAreNoWeightsSayWhatTheyAre) {
  fs::remove(weights("unet"));
  expect_contains(message(), {(path / "unet").string(), "expected diffusion_pytorch_model.safetensors, found config.json"});
  std::ofstream(weights("unet")) << "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3438167540\n";
  expect_contains(message(), {weights("unet").string(), "Git LFS pointer"});
  std::ofstream(weights("unet")) << "<!DOCTYPE html><html><body>Access denied</body></html>";
  expect_contains(message(), {weights("unet").string(), "HTML page"});
}

TEST_F(WildFolder, FoldersOfOtherFamiliesAreRefusedByName) {
  auto index = nlohmann::json::parse(io::read_file(path / "model_index.json"));
  const std::pair<const char*, const char*> families[] = {{"StableDiffusionXLImg2ImgPipeline", "XL refiner"},
                                                          {"StableDiffusionDepth2ImgPipeline", "2 depth"},
                                                          {"StableDiffusion3Pipeline", "Stable Diffusion 3"},
                                                          {"FluxPipeline", "Flux"}};
  for (const auto& [pipeline, name] : families) {
    index["_class_name"] = pipeline;
    io::write_file_atomic(path / "model_index.json", index.dump());
    expect_contains(message(), {name, pipeline, "not built"});
  }
  index["_class_name"] = "SomebodysPipeline";
  io::write_file_atomic(path / "model_index.json", index.dump());
  fs::create_directory(path / "transformer");
  expect_contains(message(), {"SomebodysPipeline", "transformer"});
}

TEST_F(WildFolder, PartsOfDifferentModelsAreRefused) {
  fs::remove_all(path / "text_encoder");
  save_model_folder(folder / "wide", test::tiny_model(1, [] {
                      auto a = test::tiny_architecture();
                      a.text_width = 32;
                      return a;
                    }()));
  fs::copy(folder / "wide/text_encoder", path / "text_encoder");
  expect_contains(message(), {"40 channels together", "got 56"});
}

TEST_F(WildFolder, AnAutoencoderIsReplacedFromWhateverHoldsOne) {
  const Model other = twin("sdxl", 9);
  save_model_folder(folder / "other", other);
  save_single_file(folder / "other.safetensors", other, {.dtype = at::kFloat});
  const auto ldm = io::SafetensorsFile::open(folder / "other.safetensors");
  NamedTensors alone;
  for (const auto& [name, tensor] : ldm.tensors()) {
    if (name.starts_with("first_stage_model.")) alone.emplace_back(name.substr(18), tensor);
  }
  io::write_safetensors(folder / "ldm.safetensors", alone);
  fs::copy_file(folder / "other/vae/diffusion_pytorch_model.safetensors", folder / "diffusers.safetensors");
  for (const char* from : {"other", "other/vae", "other.safetensors", "ldm.safetensors", "diffusers.safetensors"}) {
    Model mine = load_model(path);
    replace_vae(mine, folder / from);
    expect_equal_parts(other.vae->store, mine.vae->store);
    EXPECT_EQ(mine.vae->net.config(), model.vae->net.config()) << from;  // scaling factor included
  }
  Model mine = load_model(path);
  save_single_file(folder / "unet.safetensors", [&] {
    Model only;
    only.unet = std::move(twin("sdxl").unet);
    return only;
  }(), {.dtype = at::kFloat});
  expect_contains(test::error_message([&] { replace_vae(mine, folder / "unet.safetensors"); }), {"expected a vae", "unet"});
}

/// Model of true size without weights to speak of: every tensor is one zero, expanded.
Model hollow(const std::string& id) {
  Model model = models::declare(models::find_family(id));
  for (const nn::Component& part : model.components()) {
    for (nn::Param& param : part.store->params()) param.value = at::zeros({1}, at::kHalf).expand(param.shape);
  }
  return model;
}

TEST(LoadModelTest, SdxlsAutoencoderIsNotTakenForStableDiffusion1) {
  const test::TempFolder folder;
  Model source;
  source.vae = std::move(hollow("sdxl").vae);
  fs::create_directories(folder / "vae");
  io::write_file_atomic(folder / "vae/config.json", to_json(source.vae->net.config()));
  NamedTensors tensors;
  for (const nn::Param& param : source.vae->store.params()) tensors.emplace_back(param.path, param.value);
  io::write_safetensors(folder / "vae/diffusion_pytorch_model.safetensors", tensors);
  Model sd1 = hollow("sd1");
  const std::string message =
      test::error_message([&] { replace_vae(sd1, folder / "vae", at::ScalarType::Undefined); });
  expect_contains(message, {"Stable Diffusion 1.x (scaling_factor 0.18215)", "Stable Diffusion XL base", "0.13025"});
  Model sdxl = hollow("sdxl");
  replace_vae(sdxl, folder / "vae", at::ScalarType::Undefined);
}

TEST(LoadModelTest, WhatIsNotThereIsNamed) {
  expect_contains(test::error_message([] { load_model("/nowhere/model.safetensors"); }), {"/nowhere/model.safetensors", "nothing"});
}

}  // namespace
}  // namespace emulsion::weights
