// Training a hypernetwork: it learns, nothing else changes, and its file is what was trained.
#include "weights/hypernetwork_file.h"

#include "io/tensor_file.h"
#include "train/methods.h"
#include "train/tiny_runs.h"
#include "train/trainer.h"
#include "weights/tiny_model.h"

namespace emulsion::train {
namespace {

DenoisingInputs tiny_inputs(const models::Model& model) {
  DenoisingInputs in;
  in.latents = Rng(1).normal({2, 4, 8, 8}, Purpose::latent);
  in.noise = Rng(2).normal({2, 4, 8, 8}, Purpose::noise);
  in.timesteps = at::tensor({100, 700}, at::kLong);
  in.conditioning.context = Rng(3).normal({2, 7, model.unet->net.config().cross_attention_dim}, Purpose::caption);
  return in;
}

TEST(HypernetworkMethodTest, LearnsChangesNothingElseAndIsReadAsItWasTrained) {
  RunConfig config;
  config.name = "style";
  config.steps = 30;
  config.lanes = 1;
  config.optimizer = optim::AdamWConfig{.lr = 1e-2};
  config.method = HypernetworkMethod{
      {.activation = adapters::Activation::relu, .layer_norm = true, .init = adapters::HypernetworkInit::kaiming_normal}};
  models::Model model = test::tiny_model();
  const DenoisingInputs inputs = tiny_inputs(model);
  const auto weights_of = [](const models::Model& of) {
    std::map<std::string, Tensor> all;
    for (const nn::Param& param : of.unet->store.params()) all[param.path] = param.value.clone();
    return all;
  };
  const auto before = weights_of(model);
  const auto method = make_hypernetwork_method(config, std::move(model));
  EXPECT_NE(method->describe().find("[1, 2, 1]"), std::string::npos) << method->describe();
  Learner learner(config, *method);
  double first = 0, last = 0;
  for (int64_t step = 0; step < config.steps; ++step) {
    learner.begin(step);
    last = learner.backward(2, 1, [&](int64_t, int64_t) { return method->replay(inputs, {}); }).value.item<double>();
    if (step == 0) first = last;
    learner.update();
  }
  EXPECT_LT(last, 0.95 * first);
  for (const auto& [path, value] : weights_of(dynamic_cast<DenoiserMethod&>(*method).model())) {
    EXPECT_TRUE(at::equal(value, before.at(path))) << path;
  }

  learner.settle();
  const test::TempFolder folder;
  const auto file = method->save_result(folder.path());
  EXPECT_EQ(file.filename(), "style.pt");
  const io::TensorFile saved = io::open_tensor_file(file);
  EXPECT_EQ(saved.metadata().at("activation_func"), "relu");
  EXPECT_EQ(saved.metadata().at("is_layer_norm"), "True");
  EXPECT_EQ(saved.metadata().at("step"), "30");
  auto read = weights::load_hypernetwork(file);
  size_t count = 0;
  for (const auto& [name, tensor] : read.parts()) {
    EXPECT_TRUE(at::equal(*tensor, saved.tensor(name))) << name;
    ++count;
  }
  EXPECT_EQ(count, saved.entries().size());
  EXPECT_EQ(count, method->trainables().size());
  // In use it gives the loss that training ended with.
  models::Model other = test::tiny_model();
  const adapters::ActiveHypernetworks active(other.unet->store, {{&read, 1.0}});
  config.method = DiffusionMethod{};
  const auto plain = make_diffusion_method(config, std::move(other));
  EXPECT_LT(plain->replay(inputs, {}).value.item<double>(), last);
}

}  // namespace
}  // namespace emulsion::train
