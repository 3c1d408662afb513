// LoRA and embeddings that prompts call by name.
#include "generate/networks.h"

#include <fstream>

#include "core/error.h"
#include "generate/embeddings.h"
#include "generate/generate.h"
#include "weights/adapter_file.h"
#include "adapters/lora.h"
#include "weights/hypernetwork_file.h"
#include "weights/tiny_model.h"

namespace emulsion::generate {
namespace {

using test::expect_contains;

class NamedTest : public ::testing::Test {
 protected:
  /// A LoRA on U-Net and text encoder.
  void save_lora(const std::string& name, uint64_t seed, const std::map<std::string, std::string>& metadata = {}) {
    adapters::AdapterConfig config;
    config.targets = {"unet.*.attn*.to_*", "text_encoder.*.q_proj"};
    adapters::AdapterSet set = adapters::AdapterSet::create(config, model.components(), Rng(seed));
    uint64_t address = 0;
    for (auto& bound : set.bound()) {
      Tensor& up = dynamic_cast<adapters::LoraAdapter&>(*bound.adapter).up;
      up = Rng(seed).normal(up.sizes(), Purpose::init, ++address);
    }
    std::filesystem::create_directories((folder / name).parent_path());
    weights::save_adapter(folder / (name + ".safetensors"), set, weights::LayerNames(model), weights::AdapterNaming::kohya,
                          metadata);
  }
  /// One step of drawing, which shows what acts.
  Tensor draw() {
    const at::NoGradGuard no_grad;
    const models::Conditioning told = text_states(model, {"a b"});
    return model.unet->net.forward(at::ones({1, 4, 8, 8}), at::full({1}, 500), told);
  }
  Tensor states() {
    const at::NoGradGuard no_grad;
    return text_states(model, {"a b"}).context;
  }
  Tensor drawn_with(Networks& networks, const std::string& prompt) {
    const auto active = networks.activate(networks_of(prompt));
    return draw();
  }
  NetworkFiles files() { return {NamedFiles(folder.path()), NamedFiles(folder / "hypernetworks")}; }
  std::string refusal(const std::string& prompt) {
    Networks networks(model, files());
    return test::error_message([&] { networks.activate(networks_of(prompt)); });
  }
  /// States of a text with embeddings from the folder.
  Tensor states_of(const std::string& text) {
    const at::NoGradGuard no_grad;
    const ActiveEmbeddings active(model, embeddings_of({text}, NamedFiles(folder.path()), model));
    return text_states(model, {text}, {.names = active.names()}).context;
  }
  Tensor table() { return model.text_encoder->store.at("embeddings.token_embedding.weight").value; }
  /// The vectors of the tokens of a text.
  Tensor vectors_of(const std::string& text) {
    return table().index_select(0, at::tensor(model.tokenizer->encode(text), at::kLong)).contiguous();
  }

  models::Model model = test::tiny_model();
  test::TempFolder folder;

 private:
  void SetUp() override { std::filesystem::create_directories(folder / "hypernetworks"); }
};

TEST_F(NamedTest, TagsActAtTheirStrengthsWhileTheyAreActive) {
  save_lora("style", 1);
  save_lora("deeper/other", 2);
  const Tensor plain = draw(), plain_states = states();
  Networks networks(model, files());
  const Tensor full = drawn_with(networks, "a <lora:style>");
  EXPECT_FALSE(test::close(full, plain, 1e-3));
  EXPECT_TRUE(at::equal(draw(), plain));
  EXPECT_FALSE(test::close(drawn_with(networks, "<lora:style:0.5>"), full, 1e-3));
  EXPECT_FALSE(test::close(drawn_with(networks, "<lora:other>"), full, 1e-3));
  EXPECT_TRUE(test::close(drawn_with(networks, "<lora:style:0.4><lora:style:0.6>"), full, 1e-5));
  EXPECT_TRUE(at::equal(drawn_with(networks, "<lora:style:0>"), plain));
  {  // the text encoder's strength, then the U-Net's
    const auto active = networks.activate(networks_of("<lora:style:0:1>"));
    EXPECT_TRUE(at::equal(states(), plain_states));
    EXPECT_FALSE(test::close(draw(), plain, 1e-3));
  }
  const auto active = networks.activate(networks_of("<lora:style:1:0>"));
  EXPECT_FALSE(test::close(states(), plain_states, 1e-3));
}

TEST_F(NamedTest, HypernetworksActBesideLoraAndOneAfterTheOther) {
  const auto save = [&](const std::string& name, uint64_t seed) {
    const adapters::HypernetworkConfig config{.activation = adapters::Activation::relu,
                                              .init = adapters::HypernetworkInit::kaiming_normal};
    auto network = adapters::Hypernetwork::create(config, model.unet->store, Rng(seed));
    weights::save_hypernetwork(folder / "hypernetworks" / (name + ".pt"), network, {.config = config, .name = name});
  };
  save("first", 1);
  save("second", 2);
  save_lora("style", 1);
  const Tensor plain = draw();
  Networks networks(model, files());
  const Tensor first = drawn_with(networks, "<hypernet:first>"),
               both = drawn_with(networks, "<hypernet:first><hypernet:second:0.5>");
  EXPECT_FALSE(test::close(first, plain, 1e-3));
  EXPECT_FALSE(test::close(both, first, 1e-3));
  EXPECT_FALSE(test::close(drawn_with(networks, "<hypernet:first><lora:style:0:1>"), first, 1e-3));
  EXPECT_TRUE(at::equal(drawn_with(networks, "<hypernet:first:0>"), plain));
  EXPECT_TRUE(test::close(drawn_with(networks, "<hypernet:first:0.4><hypernet:first:0.6>"), first, 1e-5));
  EXPECT_TRUE(at::equal(draw(), plain));
}

TEST_F(NamedTest, NamesAreFoundAsPeopleWriteThem) {
  save_lora("Style_v2", 1, {{"ss_output_name", "my style"}});
  const NamedFiles files(folder.path());
  for (const char* name : {"Style_v2", "style_V2", "my style"}) {
    EXPECT_EQ(files.find(name, "LoRA", "--lora-dir").filename(), "Style_v2.safetensors") << name;
  }
}

TEST_F(NamedTest, UnknownNamesAreRefusedWithTheClosest) {
  save_lora("watercolour", 1);
  expect_contains(refusal("<lora:watercolor:1>"), {"'watercolor'", "did you mean 'watercolour'"});
  expect_contains(refusal("<lora:xyz:1>"), {"'xyz'", "1 of " + folder.path().string(), "--lora-dir"});
  expect_contains(refusal("<hypernet:watercolour:1>"), {"'watercolour'", "--hypernetwork-dir"});
  Networks none(model, {});
  expect_contains(test::error_message([&] { none.activate(networks_of("<lora:a>")); }), {"no folder", "--lora-dir"});
  expect_contains(test::error_message([&] { NamedFiles(folder / "nowhere"); }), {"nowhere"});
  save_lora("a/twin", 1);
  save_lora("TWIN", 2);
  expect_contains(refusal("<lora:Twin>"), {"'Twin'", "one file", "TWIN.safetensors", "twin.safetensors"});
}

TEST_F(NamedTest, AFileThatIsNoLoraStaysOut) {
  std::ofstream(folder / "broken.safetensors") << "not weights";
  save_lora("style", 1);
  Networks networks(model, files());
  for (int i = 0; i < 2; ++i) {
    expect_contains(test::error_message([&] { networks.activate(networks_of("<lora:broken>")); }), {"broken.safetensors"});
  }
  networks.activate(networks_of("<lora:style>"));
}

TEST_F(NamedTest, AWordWithTheVectorsOfOtherWordsReadsAsThose) {
  io::write_safetensors(folder / "zq.safetensors", {{"emb_params", vectors_of("a b")}});
  EXPECT_TRUE(test::close(states_of("c zq d"), states_of("c a b d"), 1e-6));
  EXPECT_TRUE(test::close(states_of("c embedding:zq, d"), states_of("c a b, d"), 1e-6));
  EXPECT_TRUE(test::close(states_of("c (ZQ:1.3) d"), states_of("c (a b:1.3) d"), 1e-5));
  EXPECT_FALSE(test::close(states_of("c zq d"), states_of("c d"), 1e-3));
  EXPECT_TRUE(at::equal(table(), test::tiny_model().text_encoder->store.at("embeddings.token_embedding.weight").value));
}

TEST_F(NamedTest, EveryFormOfAFileIsRead) {
  const Tensor one = vectors_of("a"), two = vectors_of("a b");
  const int64_t width = one.size(1);
  const std::vector<std::pair<NamedTensors, Tensor>> cases = {
      {{{"emb_params", two}}, two},
      {{{"string_to_param.*", two}}, two},
      {{{"<any>", one[0].contiguous()}}, one},
      {{{"clip_l", two}}, two},
      {{{"clip_g", at::zeros({2, width + 4})}, {"clip_l", two}}, two},  // made for SDXL; this model takes its part
  };
  for (const auto& [tensors, expected] : cases) {
    io::write_safetensors(folder / "w.safetensors", tensors);
    const WordVectors read = load_embedding(folder / "w.safetensors", "w", model);
    ASSERT_EQ(read.vectors.size(), 1u);
    EXPECT_TRUE(at::equal(read.vectors[0], expected)) << tensors[0].first;
  }
}

TEST_F(NamedTest, EmbeddingsThatCannotBeUsedAreRefused) {
  const auto message = [&](const NamedTensors& tensors) {
    io::write_safetensors(folder / "word.safetensors", tensors);
    return test::error_message([&] { load_embedding(folder / "word.safetensors", "word", model); });
  };
  expect_contains(message({{"emb_params", at::zeros({1, 7})}}), {"[16]", "[7]", "another kind of model"});
  expect_contains(message({{"x", at::zeros({1, 16})}, {"y", at::zeros({1, 16})}}), {"emb_params", "none"});
  expect_contains(test::error_message([&] { states_of("a embedding:wordd b"); }), {"'wordd'", "did you mean 'word'"});
  // Files that no text names are not even opened.
  std::ofstream(folder / "other.safetensors") << "not weights";
  EXPECT_TRUE(embeddings_of({"a b"}, NamedFiles(folder.path()), model).empty());
}

}  // namespace
}  // namespace emulsion::generate
