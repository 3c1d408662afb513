// Textual inversion: where its vectors begin, that they alone change, and what the file of them says.
#include "core/error.h"
#include "generate/embeddings.h"
#include "io/safetensors.h"
#include "train/methods.h"
#include "train/tiny_runs.h"
#include "train/train.h"
#include "weights/load_model.h"
#include "weights/model_folder.h"
#include "weights/tiny_model.h"

namespace emulsion::train {
namespace {

using test::expect_contains;
namespace fs = std::filesystem;

class TextualInversionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_pictures(temp / "pictures");
    weights::save_model_folder(temp / "base", test::tiny_model());
    config.name = "word";
    config.method = TextualInversionMethod{{.token = "zork", .vectors = 2}};
    config.model.path = (temp / "base").string();
    config.data.sources[0].trigger = "zork";
    config.optimizer = optim::AdamWConfig{.lr = 1e-2};
  }
  Tensor table() const {
    return weights::load_model(temp / "base").text_encoder->store.at("embeddings.token_embedding.weight").value;
  }
  std::string refusal() {
    return test::error_message([&] { run_training(config, silent); });
  }
  test::TempFolder temp;
  RunConfig config = test::tiny_run(temp.path());
  Reporter silent;
};

TEST_F(TextualInversionTest, LearnsTheWordAndNothingElse) {
  std::map<std::string, std::string> before;
  for (const auto& item : fs::recursive_directory_iterator(temp / "base")) {
    if (item.is_regular_file()) before[item.path()] = test::bytes_of(item.path());
  }
  const fs::path file = run_training(config, silent).result;
  EXPECT_EQ(file.filename(), "zork.safetensors");
  const auto saved = io::SafetensorsFile::open(file);
  EXPECT_EQ(saved.tensor("emb_params").sizes(), (std::vector<int64_t>{2, 16}));

  const models::Model model = weights::load_model(temp / "base");
  const generate::WordVectors word = generate::load_embedding(file, "zork", model);
  config.steps = 12;  // another run, which begins at the same place
  config.name = "longer";
  const generate::WordVectors longer = generate::load_embedding(run_training(config, silent).result, "zork", model);
  EXPECT_GT((word.vectors[0] - longer.vectors[0]).abs().min().item<double>(), 1e-4) << "every number of every vector moves";
  for (const auto& [path, bytes] : before) EXPECT_EQ(bytes, test::bytes_of(path)) << path;
}

TEST_F(TextualInversionTest, BeginsAsTheWordsOfInitOverAndOver) {
  config.method = TextualInversionMethod{{.token = "zork", .vectors = 3, .init = "ab"}};
  const auto method = make_textual_inversion_method(config);
  const Tensor begun = *method->trainables()[0].place;
  const auto ids = models::tokenise_weighted(*test::tiny_model().tokenizer, {{"ab"}}).front().ids;
  EXPECT_TRUE(at::equal(begun[0].detach(), table()[ids[1]]));
  const auto& end = method->trainables()[0];
  EXPECT_FALSE(end.decays);
  config.method = TextualInversionMethod{{.token = "zork", .vectors = 3}};
  const auto random = make_textual_inversion_method(config);
  const Tensor spread = random->trainables()[0].place->detach();
  EXPECT_FALSE(at::equal(spread[0], spread[1]));
}

TEST_F(TextualInversionTest, TheGradientIsThatOfALargerTable) {
  // The same ids through a text encoder whose table has the rows: what transformers' resize_token_embeddings makes.
  models::Model model = test::tiny_model();
  const int64_t count = model.text_encoder->net.config().vocab_size;
  const Tensor rows = Rng(5).normal({2, 16}, Purpose::init).set_requires_grad(true);
  const Tensor ids = at::tensor(std::vector<int64_t>{count - 2, 7, count, count + 1, count, count - 1}).view({1, 6});
  const Tensor ours = [&] {
    const generate::ActiveEmbeddings active(model, {{"zork", {rows}}});
    return model.text_encoder->net.forward(ids).last;
  }();
  ours.square().sum().backward();
  const Tensor gradient = rows.grad().clone();

  models::ClipTextConfig larger = model.text_encoder->net.config();
  larger.vocab_size += 2;
  models::Part<models::ClipText> reference(larger);
  for (nn::Param& param : reference.store.params()) {
    const Tensor value = model.text_encoder->store.at(param.path).value;
    reference.store.assign(param,
                           param.path == "embeddings.token_embedding.weight" ? at::cat({value, rows.detach()}) : value.clone());
  }
  Tensor& whole = reference.store.at("embeddings.token_embedding.weight").value;
  whole = whole.detach().clone().set_requires_grad(true);
  const Tensor theirs = reference.net.forward(ids).last;
  theirs.square().sum().backward();
  EXPECT_TRUE(at::equal(ours, theirs));
  EXPECT_TRUE(at::allclose(gradient, whole.grad().narrow(0, count, 2), 1e-5, 1e-6));
  EXPECT_GT(gradient.abs().max().item<double>(), 1e-3);
}

TEST_F(TextualInversionTest, AWordThatNoCaptionHoldsIsRefused) {
  config.data.sources[0].trigger = "";
  expect_contains(refusal(), {"'zork'", "none of 6 pictures", "data.sources.trigger"});
  config.method = TextualInversionMethod{{.token = "two words"}};
  expect_contains(refusal(), {"token = \"two words\"", "one word"});
}

TEST_F(TextualInversionTest, StartingWordsMustBeKnown) {
  config.method = TextualInversionMethod{{.token = "zork", .init = " "}};
  expect_contains(refusal(), {"init = \" \"", "no word"});
}

}  // namespace
}  // namespace emulsion::train
