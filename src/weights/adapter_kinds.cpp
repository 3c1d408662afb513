#include "weights/adapter_kinds.h"

#include "core/error.h"

namespace emulsion::weights {
namespace {

struct AdapterSign {
  enum Where { begins, ends, within } where;
  const char* text;
  size_t dims;  // of the tensor; 0: any
  const char* what;
  const char* remedy;
};

constexpr const char* kMerge =
    "it is not built: merge it into its model with the program that made it, and give that model";
constexpr const char* kOtherModel = "Stable Diffusion 1.x, 2.x and XL base are built: give a LoRA for one of them";
constexpr const char* kEmbedding = "give its folder with --embeddings, and use it by its name";
constexpr const char* kNotBuilt = "it is not built: give a LoRA";

/// The first row that fits a tensor of the file counts, so what may hold other rows' tensors comes before them.
/// Names: LyCORIS, kohya's sd-scripts (networks/), OneTrainer, PEFT.
constexpr AdapterSign kAdapterSigns[] = {
    {AdapterSign::begins, "model.diffusion_model.", 0, "a whole model", "give it as MODEL"},
    {AdapterSign::begins, "emb_params", 0, "a textual inversion", kEmbedding},
    {AdapterSign::begins, "string_to_param.", 0, "a textual inversion", kEmbedding},
    {AdapterSign::begins, "clip_g", 2, "a textual inversion for SDXL", kEmbedding},
    {AdapterSign::begins, "lllite_", 0, "a ControlNet-LLLite", kNotBuilt},
    {AdapterSign::begins, "control_model.", 0, "a ControlNet", kNotBuilt},
    {AdapterSign::begins, "controlnet_", 0, "a ControlNet", kNotBuilt},
    {AdapterSign::begins, "ip_adapter.", 0, "an IP-Adapter", kNotBuilt},
    {AdapterSign::begins, "lora_unet_double_blocks_", 0, "a LoRA for Flux", kOtherModel},
    {AdapterSign::begins, "lora_unet_joint_blocks_", 0, "a LoRA for Stable Diffusion 3", kOtherModel},
    {AdapterSign::begins, "transformer.", 0, "a LoRA for a diffusion transformer (Stable Diffusion 3, Flux)", kOtherModel},
    {AdapterSign::ends, ".oft_blocks", 4, "a BOFT", kMerge},
    {AdapterSign::within, ".boft_R", 0, "a BOFT", kMerge},
    {AdapterSign::within, ".oft_R", 0, "an OFT", kMerge},
    {AdapterSign::ends, ".lora_A.0", 0, "a DyLoRA in training", "give the file that its trainer saved as a LoRA"},
    {AdapterSign::within, ".ia3_l", 0, "an (IA)^3", kMerge},
    {AdapterSign::within, ".vera_lambda_", 0, "a VeRA", kMerge},
};

bool shows(const AdapterSign& sign, const io::TensorFile::Entry& entry) {
  if (sign.dims != 0 && sign.dims != entry.shape.size()) return false;
  switch (sign.where) {
    case AdapterSign::begins: return entry.name.starts_with(sign.text);
    case AdapterSign::ends: return entry.name.ends_with(sign.text);
    case AdapterSign::within: return entry.name.find(sign.text) != std::string::npos;
  }
  return false;
}

}  // namespace

void refuse_other_adapters(const io::TensorFile& file) {
  for (const AdapterSign& sign : kAdapterSigns) {
    for (const auto& entry : file.entries()) {
      EMULSION_CHECK(!shows(sign, entry), unsupported, "[{}] expected a LoRA, got {}, as tensor '{}' shows; {}",
                     file.path().string(), sign.what, entry.name, sign.remedy);
    }
  }
}

}  // namespace emulsion::weights
