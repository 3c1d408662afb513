// Model folders: the way there and back bit for bit, and what is said about folders that do not fit.
#include "weights/model_folder.h"

#include <fstream>

#include "core/error.h"
#include "io/atomic_file.h"
#include "weights/tiny_model.h"

namespace emulsion::weights {
namespace {

namespace fs = std::filesystem;
using test::expect_contains;

void expect_same_bits(const nn::ParamStore& a, const nn::ParamStore& b) {
  ASSERT_EQ(a.params().size(), b.params().size());
  for (size_t i = 0; i < a.params().size(); ++i) {
    EXPECT_EQ(a.params()[i].path, b.params()[i].path);
    EXPECT_TRUE(at::equal(a.params()[i].value, b.params()[i].value)) << a.params()[i].path;
  }
}

TEST(ModelFolderTest, AModelComesBackBitForBit) {
  const test::TempFolder folder;
  models::Model model = test::tiny_model();
  model.scheduler.prediction = diffusion::Prediction::v_prediction;
  save_model_folder(folder / "model", model);
  const models::Model read = load_model_folder(folder / "model");
  expect_same_bits(model.vae->store, read.vae->store);
  expect_same_bits(model.unet->store, read.unet->store);
  expect_same_bits(model.text_encoder->store, read.text_encoder->store);
  EXPECT_EQ(read.vae->net.config(), model.vae->net.config());
  EXPECT_EQ(read.unet->net.config(), model.unet->net.config());
  EXPECT_EQ(read.text_encoder->net.config(), model.text_encoder->net.config());
  EXPECT_EQ(read.scheduler.prediction, diffusion::Prediction::v_prediction);
  const std::string text = "An apple, naïve café 🍎 and a long-tailed tit";
  EXPECT_EQ(read.tokenizer->encode_padded(text), model.tokenizer->encode_padded(text));
}

TEST(ModelFolderTest, WritingTwiceGivesTheSameBytes) {
  const test::TempFolder folder;
  const models::Model model = test::tiny_model();
  save_model_folder(folder / "a", model);
  save_model_folder(folder / "b", load_model_folder(folder / "a"));
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder / "a")) {
    if (!entry.is_regular_file()) continue;
    ++files;
    const fs::path relative = fs::relative(entry.path(), folder / "a");
    EXPECT_EQ(io::read_file(entry.path()), io::read_file(folder / "b" / relative)) << relative;
  }
  EXPECT_GE(files, 10);
}

TEST(ModelFolderTest, PartsAndDtypeAreThoseAskedFor) {
  const test::TempFolder folder;
  const models::Model model = test::tiny_model();
  save_model_folder(folder / "model", model);
  const models::Model read = load_model_folder(folder / "model", {.dtype = at::kBFloat16, .parts = {"vae"}});
  EXPECT_FALSE(read.unet || read.text_encoder);
  const nn::Param& param = read.vae->store.params().front();
  EXPECT_TRUE(at::equal(param.value, model.vae->store.params().front().value.to(at::kBFloat16)));
}

TEST(ModelFolderTest, TheTextEncoderMayStandWithoutItsOldPrefix) {
  const test::TempFolder folder;
  const models::Model model = test::tiny_model();
  save_model_folder(folder / "model", model);
  NamedTensors bare = {{"embeddings.position_ids", at::arange(77).unsqueeze(0)}};
  for (const nn::Param& param : model.text_encoder->store.params()) bare.emplace_back(param.path, param.value);
  io::write_safetensors(folder / "model" / "text_encoder" / "model.safetensors", bare);
  expect_same_bits(model.text_encoder->store, load_model_folder(folder / "model").text_encoder->store);
}

/// A saved tiny model whose U-Net file is rewritten by `change`; the message of loading it.
std::string message_after(const std::function<void(NamedTensors&)>& change) {
  const test::TempFolder folder;
  save_model_folder(folder / "model", test::tiny_model());
  const fs::path file = folder / "model" / "unet" / "diffusion_pytorch_model.safetensors";
  NamedTensors tensors;
  for (const auto& [name, tensor] : io::SafetensorsFile::open(file).tensors()) tensors.emplace_back(name, tensor.clone());
  change(tensors);
  io::write_safetensors(file, tensors);
  const std::string message = test::error_message([&] { load_model_folder(folder / "model"); });
  expect_contains(message, {file.string()});
  return message;
}

TEST(ModelFolderTest, AMissingTensorIsNamedWithItsFile) {
  const auto drop = [](NamedTensors& all) { std::erase_if(all, [](auto& t) { return t.first == "conv_in.bias"; }); };
  expect_contains(message_after(drop), {"1 missing: conv_in.bias", "0 unexpected"});
}

TEST(ModelFolderTest, AnUnexpectedTensorIsNamedWithItsFile) {
  const auto add = [](NamedTensors& all) { all.emplace_back("conv_new.weight", at::zeros({1})); };
  expect_contains(message_after(add), {"0 missing", "1 unexpected: conv_new.weight"});
}

TEST(ModelFolderTest, ATensorOfAnotherShapeIsNamedWithItsFile) {
  const auto reshape = [](NamedTensors& all) {
    for (auto& [name, tensor] : all) {
      if (name == "conv_in.weight") tensor = at::zeros({8, 9, 3, 3});
    }
  };
  expect_contains(message_after(reshape), {"'conv_in.weight': expected shape [8, 4, 3, 3], got [8, 9, 3, 3]"});
}

TEST(ModelFolderTest, AWeightsFileThatIsCutOffIsNamed) {
  const test::TempFolder folder;
  save_model_folder(folder / "model", test::tiny_model());
  const fs::path file = folder / "model" / "vae" / "diffusion_pytorch_model.safetensors";
  fs::resize_file(file, fs::file_size(file) - 100);
  expect_contains(test::error_message([&] { load_model_folder(folder / "model"); }), {file.string()});
}

TEST(ModelFolderTest, MissingFilesAreNamedWithWhatIsThereInstead) {
  const test::TempFolder folder;
  save_model_folder(folder / "model", test::tiny_model());
  const fs::path unet = folder / "model" / "unet";
  fs::rename(unet / "config.json", unet / "settings.json");
  expect_contains(test::error_message([&] { load_model_folder(folder / "model"); }),
                  {unet.string(), "expected config.json, found diffusion_pytorch_model.safetensors, settings.json"});
  fs::rename(unet / "settings.json", unet / "config.json");
  fs::rename(unet / "diffusion_pytorch_model.safetensors", unet / "weights.bin");
  expect_contains(test::error_message([&] { load_model_folder(folder / "model"); }),
                  {unet.string(), "expected diffusion_pytorch_model.safetensors, found config.json, weights.bin"});
}

TEST(ModelFolderTest, AFolderThatIsNoModelSaysWhatWouldBeOne) {
  const test::TempFolder folder;
  const auto message = [](const fs::path& path) { return test::error_message([&] { load_model_folder(path); }); };
  expect_contains(message(folder / "none"), {(folder / "none").string(), "found nothing", "model_index.json"});
  std::ofstream(folder / "file.txt") << "text";
  expect_contains(message(folder / "file.txt"), {"found a file"});
  expect_contains(message(folder.path()), {"expected vae, unet or text_encoder", "found file.txt"});
}

}  // namespace
}  // namespace emulsion::weights
