// The losses by hand, and gradients that do not depend on how a batch is cut into passes.
#include "train/objective.h"

#include <cmath>

#include "core/device.h"
#include "train/methods.h"
#include "train/tiny_runs.h"
#include "train/trainer.h"

namespace emulsion::train {
namespace {

TEST(AutoencoderLossTest, IsTheSumWrittenOutByHand) {
  auto vae = models::new_vae(models::vae_config(test::tiny_architecture()), Rng(1));
  for (nn::Param& param : vae->store.params()) vae->store.assign(param, at::zeros(param.shape));
  // All weights zero: the reconstruction is 0.5 everywhere; the posterior's first mean is 0.5, its variances are 1.
  vae->store.at("decoder.conv_out.bias").value.fill_(0.5);
  vae->store.at("quant_conv.bias").value[0] = 0.5;
  const Tensor columns = at::tensor({0.0f, 0.1f, 0.2f, 0.3f});
  const Tensor pixels = columns.view({1, 1, 1, 4}).expand({2, 3, 4, 4}).contiguous();
  const auto value = [&](AutoencoderMethod weights) {
    return autoencoder_loss(vae->net, weights, pixels, at::zeros({2, 4, 2, 2})).value.item<double>();
  };
  // The difference is 0.5, 0.4, 0.3, 0.2 along a row.
  AutoencoderMethod none{.l1 = 0, .l2 = 0, .gradient = 0, .kl = 0};
  EXPECT_EQ(value(none), 0);
  AutoencoderMethod one = none;
  one.l1 = 2;
  EXPECT_NEAR(value(one), 2 * 0.35, 1e-6);
  one = none;
  one.l2 = 2;
  EXPECT_NEAR(value(one), 2 * (0.25 + 0.16 + 0.09 + 0.04) / 4, 1e-6);
  // Neighbours differ by 0.1 across and 0 down; at half size 0.45 and 0.25 differ by 0.2, and that counts half.
  one = none;
  one.gradient = 2;
  EXPECT_NEAR(value(one), 2 * (0.1 + 0.5 * 0.2), 1e-6);
  // 1/2 (mean^2 + 1 - 1 - log 1) at four places.
  one = none;
  one.kl = 2;
  EXPECT_NEAR(value(one), 2 * 0.5 * 0.25 * 4, 1e-6);
  EXPECT_NEAR(value({.l1 = 1, .l2 = 0.5, .gradient = 0.5, .kl = 0.01}), 0.35 + 0.5 * 0.135 + 0.5 * 0.2 + 0.01 * 0.5,
              1e-6);
}

/// Samples `first` to `first + count` of one step, as the loader would give them.
data::Batch batch_of(int64_t first, int64_t count) {
  data::Batch batch;
  const Tensor all = Rng(5).normal({8, 3, 16, 16}, Purpose::augment).clamp(-1, 1);
  batch.pixels = all.narrow(0, first, count).contiguous(at::MemoryFormat::ChannelsLast);
  for (int64_t i = first; i < first + count; ++i) {
    batch.captions.push_back("picture " + std::to_string(i));
    batch.samples.push_back(i);
    batch.draws.push_back(100 + i);
    batch.ids.push_back(std::to_string(i) + ".png");
    batch.flipped.push_back(false);
  }
  return batch;
}

/// Cutting a batch changes last digits only: sums are taken in another order. Gradients of LoRA's smallest tensors cancel most.
void expect_same_gradients(const std::vector<Trainable>& one, const std::vector<Trainable>& two) {
  ASSERT_EQ(one.size(), two.size());
  double largest = 0;
  for (const Trainable& trainable : one) {
    if (trainable.place->grad().defined()) largest = std::max(largest, trainable.place->grad().abs().max().item<double>());
  }
  EXPECT_GT(largest, 0);
  for (size_t i = 0; i < one.size(); ++i) {
    ASSERT_TRUE(one[i].place->grad().defined() && two[i].place->grad().defined()) << one[i].name;
    // Gradients that cancel exactly (the bias of a key) are rounding noise on both sides.
    if (one[i].place->grad().abs().max().item<double>() < 1e-6 * largest) continue;
    EXPECT_TRUE(test::close(two[i].place->grad(), one[i].place->grad(), 5e-5)) << one[i].name;
  }
}

class CutBatchTest : public ::testing::TestWithParam<const char*> {
 protected:
  RunConfig config(int64_t accumulate, int64_t lanes = 1) const {
    RunConfig config = test::in_memory(DiffusionMethod{});
    config.accumulate = accumulate;
    config.lanes = lanes;
    config.batch_size = 8;
    return config;
  }

  std::unique_ptr<Method> method(RunConfig config) const {
    const std::string kind = GetParam();
    config.objective.timestep_sampling = diffusion::TimestepSampling::stratified;
    config.objective.noise_offset = 0.1;
    config.objective.noise_offset_random = true;
    config.objective.pyramid_iterations = 4;
    config.objective.input_perturbation = 0.1;
    config.objective.input_perturbation_random = true;
    if (kind == "diffusion") return make_diffusion_method(config, test::tiny_model());
    if (kind == "autoencoder") {
      config.method = AutoencoderMethod{};
      return make_autoencoder_method(config);
    }
    LoraMethod lora;
    lora.targets = {"unet.*.to_*", "text_encoder.*.fc1"};
    lora.algo = kind == "loha" ? adapters::Algorithm::loha : adapters::Algorithm::lora;
    lora.dora = kind == "dora";
    if (kind == "dropout") lora.dropout = lora.rank_dropout = 0.3;
    config.method = lora;
    auto made = make_lora_method(config, test::tiny_model());
    for (const Trainable& trainable : made->trainables()) {  // with up at zero, down gets no gradient
      at::NoGradGuard no_grad;
      trainable.place->add_(0.1);
    }
    return made;
  }
};

TEST_P(CutBatchTest, TwoPassesOfFourAreOnePassOfEight) {
  const auto whole = method(config(1)), halves = method(config(2));
  const auto one = whole->trainables(), two = halves->trainables();
  const Loss loss = whole->loss(batch_of(0, 8), {.step = 3, .micro_batch = 0});
  loss.value.backward();
  double mean = 0;
  for (int64_t k = 0; k < 2; ++k) {
    const Loss part = halves->loss(batch_of(4 * k, 4), {.step = 3, .micro_batch = k});
    (part.value / 2).backward();
    mean += part.value.item<double>() / 2;
    EXPECT_TRUE(test::close(part.per_sample, loss.per_sample.narrow(0, 4 * k, 4), 1e-5));
  }
  EXPECT_NEAR(mean, loss.value.item<double>(), 1e-5 * std::abs(mean));
  expect_same_gradients(one, two);
}

TEST_P(CutBatchTest, LanesGiveTheGradientsOfTheWholeBatchAndTheSameBitsEachTime) {
  data::Batch batch = batch_of(0, 8);
  // Two chunks of text in the first half, one in the second: all contexts must still have the same length.
  for (int word = 0; word < 100; ++word) batch.captions[1] += " word";
  const auto run = [&](int64_t lanes, Method& method) {
    const RunConfig settings = config(1, lanes);
    Learner learner(settings, method);
    const auto part = [&](int64_t first, int64_t count) {
      return method.loss(data::part_of(batch, first, count), {3, 0, &batch, first});
    };
    return std::pair(learner.backward(8, 1, part), learner.trainables());
  };
  const auto whole = method(config(1)), lanes = method(config(1)), again = method(config(1));
  const auto [one, one_trained] = run(1, *whole);
  const auto [four, four_trained] = run(4, *lanes);
  const auto [repeated, repeated_trained] = run(4, *again);
  EXPECT_NEAR(four.value.item<double>(), one.value.item<double>(), 1e-5 * std::abs(one.value.item<double>()));
  EXPECT_TRUE(test::close(four.per_sample, one.per_sample.detach(), 1e-5));
  EXPECT_TRUE(test::close(four.prediction, one.prediction.detach(), 1e-5));
  EXPECT_TRUE(at::equal(four.value, repeated.value));
  for (size_t i = 0; i < four_trained.size(); ++i) {
    EXPECT_TRUE(at::equal(four_trained[i].place->grad(), repeated_trained[i].place->grad())) << four_trained[i].name;
  }
  expect_same_gradients(one_trained, four_trained);
}

TEST_P(CutBatchTest, GradientCheckpointingChangesNoBit) {
  const auto method = this->method(config(1));
  const auto trained = method->trainables();
  const auto gradients = [&](nn::Recomputation* plan) {
    const nn::Recomputation::Scope scope(plan);
    method->loss(batch_of(0, 8), {.step = 3}).value.backward();
    std::vector<Tensor> result;
    for (const Trainable& trainable : trained) result.push_back(std::exchange(trainable.place->mutable_grad(), Tensor()));
    return result;
  };
  nn::Recomputation plan;
  const auto without = gradients(nullptr), repeated = gradients(&plan);
  const size_t blocks = plan.costs().size();
  ASSERT_GT(blocks, 3u);
  std::vector<bool> some(blocks);
  for (size_t i = 0; i < blocks; i += 2) some[i] = true;
  plan.keep(some);
  const auto partly = gradients(&plan);
  plan.keep(std::vector<bool>(blocks, true));
  const auto kept = gradients(&plan);
  const double largest = at::cat([&] {
    std::vector<Tensor> flat;
    for (const Tensor& gradient : without) flat.push_back(gradient.flatten().abs());
    return flat;
  }()).max().item<double>();
  for (size_t i = 0; i < without.size(); ++i) {
    const std::string& name = trained[i].name;
    EXPECT_TRUE(at::equal(repeated[i], partly[i]) && at::equal(repeated[i], kept[i])) << name;
    EXPECT_LT((repeated[i] - without[i]).abs().max().item<double>(), 1e-5 * largest) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, CutBatchTest, ::testing::Values("autoencoder", "diffusion", "lora", "loha", "dora", "dropout"));

TEST(DenoisingTest, APerturbationChangesWhatTheNetworkSeesAndNotTheTarget) {
  const models::Model model = test::tiny_model();
  const auto& config = model.unet->net.config();
  const Denoising denoising{diffusion::NoiseSchedule(model.scheduler.noise), diffusion::Prediction::v_prediction, {}};
  DenoisingInputs in;
  in.latents = Rng(1).normal({2, config.in_channels, 8, 8}, Purpose::latent);
  in.noise = Rng(1).normal(in.latents.sizes(), Purpose::noise);
  in.timesteps = at::tensor({100, 700}, at::kLong);
  in.conditioning.context = Rng(1).normal({2, 77, config.cross_attention_dim}, Purpose::caption);
  DenoisingInputs perturbed = in, noisier = in;
  perturbed.perturbation = 0.3 * Rng(1).normal(in.latents.sizes(), Purpose::perturbation);
  noisier.noise = in.noise + perturbed.perturbation;
  const Loss plain = denoising(model.unet->net, in), other = denoising(model.unet->net, perturbed);
  EXPECT_TRUE(at::equal(other.prediction, denoising(model.unet->net, noisier).prediction));
  EXPECT_FALSE(at::equal(other.prediction, plain.prediction));
  const auto c = denoising.schedule.at(in.timesteps);
  const Tensor v = c.alpha * in.noise - c.sigma * in.latents;
  EXPECT_TRUE(test::close(other.per_sample, (other.prediction - v).square().mean({1, 2, 3}), 1e-6));
}

TEST(DenoisingTest, OptionsThatDoNotFitTheModelAreRefused) {
  RunConfig config = test::in_memory(DiffusionMethod{});
  config.objective.scale_v_loss = true;  // the tiny model predicts epsilon
  test::expect_contains(test::error_message([&] { make_diffusion_method(config, test::tiny_model()); }),
                        {"objective.scale_v_loss", "v_prediction"});
}

TEST(DenoisingTest, TheLossOfAMaskAndOfItsOppositeAreThatOfThePicture) {
  const auto method = make_diffusion_method(test::in_memory(DiffusionMethod{}), test::tiny_model());
  const auto losses = [&](const Tensor& masks) {
    data::Batch batch = batch_of(0, 4);
    batch.masks = masks;
    return method->loss(batch, {.step = 3}).per_sample;
  };
  const Tensor left = at::cat({at::ones({4, 1, 16, 8}), at::zeros({4, 1, 16, 8})}, 3);
  const Tensor one = losses(left), other = losses(1 - left), whole = losses({});
  EXPECT_TRUE(one.gt(0).all().item<bool>() && other.gt(0).all().item<bool>());
  EXPECT_TRUE(at::allclose(one + other, whole, 1e-5)) << one << other << whole;
}

/// A LoRA on both parts; `moved`: one that has learned something.
std::unique_ptr<Method> lora_of_both_parts(bool moved) {
  LoraMethod lora;
  lora.targets = {"unet.*.to_*", "text_encoder.*.fc1"};
  auto made = make_lora_method(test::in_memory(lora), test::tiny_model());
  const at::NoGradGuard no_grad;
  for (const Trainable& trainable : made->trainables()) trainable.place->add_(moved ? 0.05 : 0);
  return made;
}

TEST(DenoisingTest, PriorPredictionTrainsTowardsTheUntouchedModel) {
  data::Batch batch = batch_of(0, 4);
  const StepAddress at_step{.step = 3};
  const Tensor untouched = lora_of_both_parts(false)->loss(batch, at_step).prediction.detach();
  const auto moved = lora_of_both_parts(true);
  const Loss before = moved->loss(batch, at_step);
  batch.prior_prediction = {false, true, true, false};
  const Loss loss = moved->loss(batch, at_step);
  EXPECT_TRUE(at::equal(loss.prediction, before.prediction));
  const Tensor distance = (loss.prediction.detach() - untouched).square().mean({1, 2, 3});
  for (int64_t i = 0; i < 4; ++i) {
    const bool prior = batch.prior_prediction[static_cast<size_t>(i)];
    const double expected = (prior ? distance[i] : before.per_sample[i]).item<double>();
    EXPECT_GT(expected, 1e-6);
    EXPECT_NEAR(loss.per_sample[i].item<double>(), expected, 1e-4 * expected) << i;
  }
  // What has learned nothing is where it should be, and is not pulled anywhere.
  batch.prior_prediction = {true, true, true, true};
  const auto fresh = lora_of_both_parts(false);
  EXPECT_LT(fresh->loss(batch, at_step).value.item<double>(), 1e-12);
}

TEST(DenoisingTest, CaptionsThatVaryAreEncodedAsTheyCome) {
  const test::TempFolder folder;
  RunConfig config = test::in_memory(LoraMethod{});
  config.data.tag_dropout = 0.5;
  config.data.sources.front().path = test::write_pictures(folder / "pictures", 2);
  for (const char* name : {"p0.txt", "p1.txt"}) std::ofstream(folder / "pictures" / name) << "one, two, three, four";
  const data::Index index = data::scan(config.data);
  const data::BatchPlan plan(index, config.data, 2, 3);
  const data::BatchSource source(index, config.data, plan, 3);
  const auto method = make_lora_method(config, test::tiny_model());
  Reporter quiet;
  method->prepare(source, folder / "cache", quiet);
  data::Loader loader(source, 0, 0);
  for (int64_t step = 0; step < 8; ++step) {
    EXPECT_TRUE(std::isfinite(method->loss(loader.next(), {.step = step}).value.item<double>()));
  }
}

TEST(DenoisingTest, CaptionsAreReadAsTheRunSays) {
  data::Batch batch = batch_of(0, 2);
  batch.captions = {"a (b:1.5)", "c"};
  const auto loss = [&](const TextConfig& text) {
    RunConfig config = test::in_memory(DiffusionMethod{});
    config.text = text;
    return make_diffusion_method(config, test::tiny_model())->loss(batch, {}).per_sample.detach();
  };
  const Tensor plain = loss({}), weighted = loss({.weighted = true});
  EXPECT_GT((plain - weighted).abs()[0].item<double>(), 1e-6);
  EXPECT_TRUE(test::close(plain[1], weighted[1], 1e-6));  // nothing to weigh
  // The tiny text encoder has one layer.
  EXPECT_NE(test::error_message([&] { loss({.clip_skip = 2}); }).find("clip skip 2"), std::string::npos);
}

TEST(DenoisingTest, RandomnessBelongsToTheDrawAndTheStep) {
  const auto method = make_diffusion_method(test::in_memory(DiffusionMethod{}), test::tiny_model());
  const auto value = [&](const data::Batch& batch, int64_t step) {
    return method->loss(batch, {.step = step, .micro_batch = 0}).value.item<double>();
  };
  const double first = value(batch_of(0, 2), 0);
  EXPECT_EQ(value(batch_of(0, 2), 0), first);
  EXPECT_NE(value(batch_of(0, 2), 1), first);  // other timesteps
  data::Batch redrawn = batch_of(0, 2);
  redrawn.draws = {500, 501};
  EXPECT_NE(value(redrawn, 0), first);  // other noise
  data::Batch other_text = batch_of(0, 2);
  other_text.captions[0] = "something else";
  EXPECT_NE(value(other_text, 0), first);
}

TEST(DenoisingTest, Bfloat16GivesTheLossOfFloat32WithinItsDigits) {
  if (!has_fast_bfloat16()) GTEST_SKIP() << "this processor has no bfloat16 matrix products";
  RunConfig config = test::in_memory(DiffusionMethod{});
  const auto exact = make_diffusion_method(config, test::tiny_model());
  config.dtype = ComputeDtype::bfloat16;
  const auto rounded = make_diffusion_method(config, test::tiny_model());
  Learner learner(config, *rounded);
  const double expected = exact->loss(batch_of(0, 8), {}).value.item<double>();
  const Loss loss = rounded->loss(batch_of(0, 8), {});
  EXPECT_EQ(loss.value.scalar_type(), at::kFloat);
  EXPECT_NEAR(loss.value.item<double>(), expected, 0.05 * expected);
  learner.begin(0);
  loss.value.backward();
  EXPECT_GT(learner.update().grad_norm, 0);
  EXPECT_TRUE(std::isfinite(rounded->loss(batch_of(0, 8), {}).value.item<double>()));
}

}  // namespace
}  // namespace emulsion::train
