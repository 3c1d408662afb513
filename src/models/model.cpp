#include "models/model.h"

#include "core/error.h"

namespace emulsion::models {
namespace {

using nn::InitKind;
using nn::InitRule;

// What made small models learn fast from nothing, and SD's sizes no worse: every convolution N(0, 1/fan_in), the second of
// each residual block at a tenth of that, so that a block starts near the identity.
const std::vector<InitRule> kVaeInit = {
    {"*.weight", InitKind::normal_fan_in},
    {"*.conv2.weight", InitKind::normal_fan_in, 0.1},
    {"*.attentions.*.to_out.0.weight", InitKind::normal_fan_in, 0.1},
    {"*norm*.weight", InitKind::ones},
    {"*.bias", InitKind::zeros},
};

// The last convolution starts at zero (the first prediction is the mean), the attention blocks' way out at unit gain:
// zero there starves the text encoder of gradient.
const std::vector<InitRule> kUNetInit = {
    {"*.weight", InitKind::normal_fan_in},
    {"*.conv2.weight", InitKind::normal_fan_in, 0.1},
    {"*.attn2.to_v.weight", InitKind::normal_fan_in, 1.4},
    {"*.attn2.to_out.0.weight", InitKind::normal_fan_in, 1.4},
    {"conv_out.weight", InitKind::zeros},
    {"*norm*.weight", InitKind::ones},
    {"*.bias", InitKind::zeros},
};

const std::vector<InitRule> kTextInit = {
    {"*.weight", InitKind::normal_fan_in},
    {"embeddings.token_embedding.weight", InitKind::normal, 0.05},
    {"embeddings.position_embedding.weight", InitKind::normal, 0.01},
    {"*norm*.weight", InitKind::ones},
    {"*.bias", InitKind::zeros},
};

template <class Net, class Config>
std::unique_ptr<Part<Net>> make(const Config& config, const Rng& rng, const char* name,
                                const std::vector<InitRule>& rules) {
  auto part = std::make_unique<Part<Net>>(config);
  nn::initialise(part->store, rng, name, rules);
  return part;
}

template <class Net>
const Net& need(const std::unique_ptr<Part<Net>>& part, const char* name, const std::string& what_for) {
  EMULSION_CHECK(part, not_found, "[model] '{}' is missing, which {} needs", name, what_for);
  return part->net;
}

}  // namespace

std::vector<nn::Component> Model::components() const {
  std::vector<nn::Component> parts;
  if (unet) parts.push_back({"unet", &unet->store});
  if (text_encoder) parts.push_back({"text_encoder", &text_encoder->store});
  if (text_encoder_2) parts.push_back({"text_encoder_2", &text_encoder_2->store});
  if (vae) parts.push_back({"vae", &vae->store});
  return parts;
}

const Vae& Model::need_vae(const std::string& what_for) const { return need(vae, "vae", what_for); }
const UNet& Model::need_unet(const std::string& what_for) const { return need(unet, "unet", what_for); }
const ClipText& Model::need_text_encoder(const std::string& what_for) const {
  EMULSION_CHECK(tokenizer, not_found, "[model] 'tokenizer' is missing, which {} needs", what_for);
  return need(text_encoder, "text_encoder", what_for);
}

std::vector<Model::TextReader> Model::need_text_readers(const std::string& what_for) const {
  const auto reader = [](const Part<ClipText>& part, const ClipTokenizer& tokenizer) {
    return TextReader{part.net, tokenizer, part.store.params().front().value.device()};
  };
  need_text_encoder(what_for);
  std::vector<TextReader> readers = {reader(*text_encoder, *tokenizer)};
  if (text_encoder_2) {
    EMULSION_CHECK(tokenizer_2, not_found, "[model] 'tokenizer_2' is missing, which {} needs", what_for);
    readers.push_back(reader(*text_encoder_2, *tokenizer_2));
  }
  return readers;
}

void Model::convert(at::ScalarType dtype, at::Device device) {
  for (const nn::Component& part : components()) part.store->convert(dtype, device);
}

std::unique_ptr<Part<Vae>> new_vae(const VaeConfig& config, const Rng& rng) {
  return make<Vae>(config, rng, "vae", kVaeInit);
}
std::unique_ptr<Part<UNet>> new_unet(const UNetConfig& config, const Rng& rng) {
  return make<UNet>(config, rng, "unet", kUNetInit);
}
std::unique_ptr<Part<ClipText>> new_text_encoder(const ClipTextConfig& config, const Rng& rng, const char* name) {
  return make<ClipText>(config, rng, name, kTextInit);
}

}  // namespace emulsion::models
