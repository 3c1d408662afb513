#include "weights_kind.h"

#include <fmt/format.h>

#include <array>
#include <map>

#include "text.h"

namespace emulsion::app {
namespace {

/// What a weights file is, by a key or part of a key that only it has; the first match counts.
constexpr std::array<std::pair<const char*, const char*>, 20> kKinds = {{
    {"optimizer/", "training state of a run"},
    {".dora_scale", "DoRA, kohya's names"},
    {".hada_w1_a", "LoHa, kohya's names"},
    {".oft_blocks", "OFT, kohya's names"},
    {".on_input", "(IA)^3, kohya's names"},
    {".a1.weight", "GLoRA, kohya's names"},
    {".lokr_w1", "LoKr, kohya's names"},
    {".lora_down.weight", "LoRA, kohya's names"},
    {".lora_A.weight", "LoRA, names of PEFT and diffusers"},
    {".lora.down.weight", "LoRA, old names of diffusers"},
    {"model.diffusion_model.",
     "whole model in one file, names of the original Stable Diffusion code"},
    {"step.0.latents", "recorded inputs, for emulsion replay"},
    {"step.0.loss", "result of emulsion replay"},
    {"encoder.down_blocks.", "autoencoder, names of diffusers"},
    {"down_blocks.0.", "U-Net, names of diffusers"},
    {"text_model.", "CLIP text encoder, names of transformers"},
    {"transformer_blocks.", "diffusion transformer, names of diffusers"},
    {"embeddings.position_embedding", "CLIP text encoder"},
    {"emb_params", "textual inversion"},
    {"latents", "latents"},
}};

}  // namespace

std::string kind_of(const io::TensorFile& file) {
  for (const auto& [sign, kind] : kKinds) {
    for (const auto& entry : file.entries()) {
      if (entry.name.find(sign) != std::string::npos) return kind;
    }
  }
  return "tensors";
}

std::string summary(const io::TensorFile& file) {
  int64_t numbers = 0, bytes = 0;
  std::map<std::string, int64_t> dtypes;
  for (const auto& entry : file.entries()) {
    numbers += entry.numel();
    bytes += static_cast<int64_t>(entry.bytes());
    ++dtypes[c10::toString(entry.dtype)];
  }
  std::string names;
  for (const auto& [name, count] : dtypes) names += (names.empty() ? "" : " and ") + name;
  return fmt::format("{}, {} numbers, {} ({})",
                     counted(static_cast<int64_t>(file.entries().size()), "tensors"),
                     human_count(numbers), names, human_bytes(bytes));
}

}  // namespace emulsion::app
