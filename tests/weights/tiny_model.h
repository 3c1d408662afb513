// A whole model of a few thousand weights, all random, and the tiny U-Net of the golden files.
#pragma once

#include <gtest/gtest.h>

#include "io/safetensors.h"
#include "models/model.h"
#include "support/support.h"

namespace emulsion::test {

inline models::ArchitectureConfig tiny_architecture() {
  models::ArchitectureConfig a;
  a.resolution = 16;
  a.vae_channels = {4, 8};
  a.vae_groups = 2;
  a.unet_channels = {8, 16};
  a.unet_groups = 4;
  a.unet_head_width = 8;
  a.unet_first_attention_level = 0;
  a.text_width = 16;
  a.text_layers = 1;
  a.text_heads = 2;
  a.text_merges = 100;
  return a;
}

/// Adds a little noise to every tensor, so that none is zero or one.
inline void perturb(nn::ParamStore& store, const Rng& rng, uint64_t address) {
  for (nn::Param& param : store.params()) {
    store.assign(param, param.value + 0.1 * rng.normal(param.shape, Purpose::init, address++));
  }
}

inline models::Model tiny_model(uint64_t seed = 1, const models::ArchitectureConfig& a = tiny_architecture()) {
  const Rng rng(seed);
  models::Model model;
  model.vae = models::new_vae(models::vae_config(a), rng);
  model.unet = models::new_unet(models::unet_config(a), rng);
  model.text_encoder = models::new_text_encoder(models::clip_text_config(a), rng);
  model.tokenizer = models::ClipTokenizer::truncated(a.text_merges);
  perturb(model.vae->store, rng, 1000);
  perturb(model.unet->store, rng, 2000);
  perturb(model.text_encoder->store, rng, 3000);
  return model;
}

inline io::SafetensorsFile golden_file(const std::string& name) {
  return io::SafetensorsFile::open(golden(name + ".safetensors"));
}

/// The U-Net of tests/golden/unet_sd1.safetensors; LoRA files and the training trace start from it.
inline std::unique_ptr<models::Part<models::UNet>> golden_unet() {
  const auto file = golden_file("unet_sd1");
  auto unet = std::make_unique<models::Part<models::UNet>>(
      models::unet_config_from_json(file.metadata().at("config"), "config.json"));
  for (nn::Param& param : unet->store.params()) {
    unet->store.assign(param, file.tensor("param." + param.path).clone());
  }
  return unet;
}

}  // namespace emulsion::test
