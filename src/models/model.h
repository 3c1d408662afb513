// A whole Stable Diffusion model in memory: its networks with their tensors, tokenizer and scheduler settings.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/random.h"
#include "diffusion/scheduler_config.h"
#include "models/architecture.h"
#include "models/clip_text.h"
#include "models/tokenizer.h"
#include "models/unet.h"
#include "models/vae.h"
#include "nn/init.h"

namespace emulsion::models {

/// A network and the store that holds its tensors. Stays where it is: leaves point into the store.
template <class Net>
struct Part {
  template <class Config>
  explicit Part(Config config) : net(nn::Scope(store), std::move(config)) {}
  nn::ParamStore store;
  Net net;
};

struct Model {
  std::unique_ptr<Part<Vae>> vae;
  std::unique_ptr<Part<UNet>> unet;
  std::unique_ptr<Part<ClipText>> text_encoder;
  std::unique_ptr<Part<ClipText>> text_encoder_2;  // SDXL's OpenCLIP bigG, with projection
  std::optional<ClipTokenizer> tokenizer;
  std::optional<ClipTokenizer> tokenizer_2;
  diffusion::SchedulerConfig scheduler;
  bool zeros_for_empty_prompt = false;  // an empty negative prompt is all zeros (SDXL's force_zeros_for_empty_prompt)

  /// Those parts that are there.
  std::vector<nn::Component> components() const;

  /// Throws Error{not_found} naming the part and what it is needed for.
  const Vae& need_vae(const std::string& what_for) const;
  const UNet& need_unet(const std::string& what_for) const;
  const ClipText& need_text_encoder(const std::string& what_for) const;
  /// Text encoders with their tokenizers, first to second.
  struct TextReader {
    const ClipText& encoder;
    const ClipTokenizer& tokenizer;
    at::Device device;
  };
  std::vector<TextReader> need_text_readers(const std::string& what_for) const;

  /// Casts every part.
  void convert(at::ScalarType dtype, at::Device device = at::kCPU);
};

/// New parts with random weights; a pure function of (config, rng's seed).
std::unique_ptr<Part<Vae>> new_vae(const VaeConfig& config, const Rng& rng);
std::unique_ptr<Part<UNet>> new_unet(const UNetConfig& config, const Rng& rng);
/// `name` as the part is called in a model: "text_encoder" or "text_encoder_2".
std::unique_ptr<Part<ClipText>> new_text_encoder(const ClipTextConfig& config, const Rng& rng,
                                                 const char* name = "text_encoder");

}  // namespace emulsion::models
