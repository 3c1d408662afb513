// The KL autoencoder alone.
#include <cmath>

#include "core/error.h"
#include "core/stop.h"
#include "generate/generate.h"
#include "train/methods.h"
#include "weights/load_model.h"
#include "weights/model_folder.h"

namespace emulsion::train {
namespace {

class Autoencoder : public Method {
 public:
  Autoencoder(const RunConfig& config, models::Model model)
      : config_(config), model_(std::move(model)), rng_(static_cast<uint64_t>(config.seed)) {}

  std::string describe() const override {
    return fmt::format("autoencoder with {:.2f} M weights, {}", model_.vae->store.numel() / 1e6,
                       config_.model.path.empty() ? "from random weights" : "from " + config_.model.path);
  }

  std::vector<Trainable> trainables() override {
    std::vector<Trainable> all;
    add_trainables(model_.vae->store, "", all);
    return all;
  }

  int64_t weight_count() const override { return model_.vae->store.numel(); }

  Loss loss(const data::Batch& batch, const StepAddress&) override {
    const models::VaeConfig& vae = model_.vae->net.config();
    const int64_t f = vae.factor();
    std::vector<Tensor> eps;
    for (const int64_t draw : batch.draws) {
      eps.push_back(rng_.normal({vae.latent_channels, batch.pixels.size(2) / f, batch.pixels.size(3) / f},
                                Purpose::latent, static_cast<uint64_t>(draw)));
    }
    return autoencoder_loss(model_.vae->net, std::get<AutoencoderMethod>(config_.method),
                            batch.pixels.to(dtype_of(config_.dtype)), at::stack(eps));
  }

  /// Of the posterior's mean; captions and noise play no part.
  Tensor validation_losses(const data::Batch& batch, const std::vector<std::vector<std::string>>& readings,
                           const std::vector<double>&) const override {
    const models::VaeConfig& vae = model_.vae->net.config();
    const int64_t f = vae.factor();
    const Tensor eps = at::zeros({batch.pixels.size(0), vae.latent_channels, batch.pixels.size(2) / f, batch.pixels.size(3) / f});
    const Tensor pixels = batch.pixels.to(dtype_of(config_.dtype));
    const Loss loss = autoencoder_loss(model_.vae->net, std::get<AutoencoderMethod>(config_.method), pixels, eps);
    return loss.per_sample.to(at::kDouble).expand({static_cast<int64_t>(readings.size()), -1});
  }
  bool reads_captions() const override { return false; }

  /// Pictures above, reconstructions (from the posterior's mean) below.
  Tensor preview(const data::BatchSource& source, Reporter&) override {
    at::NoGradGuard no_grad;
    const auto count = std::min<int64_t>(source.index().samples.size(), config_.preview.count);
    std::vector<Tensor> pictures;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t sample = i * static_cast<int64_t>(source.index().samples.size()) / count;
      const Tensor picture = source.picture(sample, false);
      if (!pictures.empty() && picture.sizes() != pictures.front().sizes()) continue;
      pictures.push_back(picture);
    }
    const Tensor pixels = at::stack(pictures);
    const models::Posterior posterior(model_.vae->net.encode(pixels.to(dtype_of(config_.dtype))));
    const Tensor shown = at::cat({pixels, model_.vae->net.decode(posterior.mean).to(at::kFloat)});
    return generate::make_grid(generate::to_bytes(shown), pixels.size(0));
  }

  void finish(const data::BatchSource& source, Reporter& reporter) override {
    if (std::get<AutoencoderMethod>(config_.method).normalise_latents) normalise(source, reporter);
  }

  std::filesystem::path save_result(const std::filesystem::path& run_folder) override {
    weights::save_model_folder(run_folder / "model", model_);
    return run_folder / "model";
  }

 private:
  /// Gives each latent channel mean 0 and spread 1 over the training pictures, by changing the 1x1 convolutions that
  /// lie between the networks and the latents; SD's single scaling_factor is then 1.
  void normalise(const data::BatchSource& source, Reporter& reporter) {
    at::NoGradGuard no_grad;
    EMULSION_CHECK(model_.vae->net.config().use_quant_conv, unsupported,
                   "[autoencoder] normalise_latents needs quant_conv, which this autoencoder lacks; switch it off");
    const auto& samples = source.index().samples;
    Progress progress(reporter, "Measuring latents", static_cast<int64_t>(samples.size()), "pictures");
    Tensor sum, squares;
    double count = 0;
    for (size_t i = 0; i < samples.size(); ++i) {
      EMULSION_CHECK(!stop_requested(), cancelled, "stopped while measuring latents");
      const Tensor pixels = source.picture(static_cast<int64_t>(i), false).unsqueeze(0).to(dtype_of(config_.dtype));
      const Tensor mean = models::Posterior(model_.vae->net.encode(pixels).to(at::kDouble)).mean;
      const Tensor s = mean.sum({0, 2, 3}), q = mean.square().sum({0, 2, 3});
      sum = sum.defined() ? sum + s : s;
      squares = squares.defined() ? squares + q : q;
      count += static_cast<double>(mean.size(2) * mean.size(3));
      progress.advance(static_cast<int64_t>(i + 1));
    }
    const Tensor mean = sum / count;
    const Tensor spread = (squares / count - mean.square()).clamp_min(1e-12).sqrt();
    fold(mean.to(at::kFloat), spread.to(at::kFloat));
  }

  void fold(const Tensor& mean, const Tensor& spread) {
    nn::ParamStore& store = model_.vae->store;
    const int64_t z = mean.size(0);
    const auto column = [](const Tensor& v) { return v.view({-1, 1, 1, 1}); };
    // Encoder: mean channels become (m - mean) / spread, log-variances move by -2 log spread.
    Tensor weight = store.at("quant_conv.weight").value, bias = store.at("quant_conv.bias").value;
    weight.narrow(0, 0, z).div_(column(spread));
    bias.narrow(0, 0, z).sub_(mean).div_(spread);
    bias.narrow(0, z, z).sub_(2 * spread.log());
    // Decoder: takes spread * latent + mean.
    Tensor post = store.at("post_quant_conv.weight").value, post_bias = store.at("post_quant_conv.bias").value;
    post_bias.add_(at::mv(post.flatten(1), mean.to(post.scalar_type())));
    post.mul_(spread.view({1, -1, 1, 1}));
  }

  RunConfig config_;
  models::Model model_;
  Rng rng_;
};

}  // namespace

std::unique_ptr<Method> make_autoencoder_method(const RunConfig& config) {
  models::Model model;
  if (config.model.path.empty()) {
    model.vae = models::new_vae(models::vae_config(config.model.architecture), Rng(static_cast<uint64_t>(config.seed)));
  } else {
    model = weights::load_model(config.model.path, {.dtype = at::kFloat, .parts = {"vae"}});
  }
  model.need_vae("training it");
  model.convert(dtype_of(config.dtype));
  return std::make_unique<Autoencoder>(config, std::move(model));
}

}  // namespace emulsion::train
