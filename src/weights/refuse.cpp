#include "weights/refuse.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/atomic_file.h"
#include "models/family.h"

namespace emulsion::weights {
namespace {

namespace fs = std::filesystem;

struct Sign {
  const char* text;    // a part of a tensor's name
  bool at_start;       // it must stand at the start, after the wrapper and "model.diffusion_model."
  const char* family;  // id of models::unbuilt_families(), or nullptr
  const char* what;    // otherwise
  const char* remedy;
};

constexpr const char* kGiveBase = "give the model it was trained on, and this file with --lora";

constexpr Sign kSigns[] = {
    {"conditioner.embedders.0.model.", true, "sdxl_refiner", nullptr, nullptr},
    {"joint_blocks.0.", true, "sd3", nullptr, nullptr},
    {"double_blocks.0.img_attn.", true, "flux", nullptr, nullptr},
    {"optimizer/", true, nullptr, "a checkpoint of a training run", "give the run's model folder"},
    {"control_model.", true, nullptr, "a ControlNet", "it is not built"},
    {"controlnet_cond_embedding.", true, nullptr, "a ControlNet", "it is not built"},
    {"edm_mean", true, nullptr, "Playground 2.5", "it is not built; Stable Diffusion 1.x, 2.x and XL base are"},
    {"emb_params", true, nullptr, "a textual inversion", "give a model, and use the embedding by its name"},
    {"string_to_param.", true, nullptr, "a textual inversion", "give a model, and use the embedding by its name"},
    {"clip_g", true, nullptr, "a textual inversion for SDXL", "give a model, and use the embedding by its name"},
    {".lora_down.weight", false, nullptr, "a LoRA", kGiveBase},
    {".lora_A.weight", false, nullptr, "a LoRA", kGiveBase},
    {".lora.down.weight", false, nullptr, "a LoRA", kGiveBase},
    {".hada_w1_a", false, nullptr, "a LoHa", kGiveBase},
    {".lokr_w1", false, nullptr, "a LoKr", kGiveBase},
    {".oft_blocks", false, nullptr, "an OFT adapter", kGiveBase},
    {".motion_modules.", false, nullptr, "an AnimateDiff motion module", "it is not built"},
};

bool fits(const Sign& sign, const std::string& wrapper, const std::string& name) {
  if (!sign.at_start) return name.find(sign.text) != name.npos;
  for (const char* prefix : {"", "model.diffusion_model."}) {
    if (name.starts_with(wrapper + prefix + sign.text)) return true;
  }
  return false;
}

// Classes of model_index.json that are other families.
constexpr std::pair<const char*, const char*> kPipelines[] = {{"StableDiffusionXLImg2ImgPipeline", "sdxl_refiner"},
                                                              {"StableDiffusionDepth2ImgPipeline", "sd2_depth"},
                                                              {"StableDiffusion3", "sd3"},
                                                              {"Flux", "flux"}};

}  // namespace

void refuse_other_files(const io::TensorFile& file, const std::string& wrapper) {
  const std::string where = file.path().string();
  for (const Sign& sign : kSigns) {
    for (const auto& entry : file.entries()) {
      if (!fits(sign, wrapper, entry.name)) continue;
      if (sign.family) {
        with_context(fmt::format("looking at tensor '{}'", entry.name), [&] { models::refuse_family(sign.family, where); });
      }
      throw Error(ErrorCode::unsupported, fmt::format("[{}] expected a model, got {}, as tensor '{}' shows; {}", where,
                                                      sign.what, entry.name, sign.remedy));
    }
  }
}

void refuse_input_channels(int64_t channels, const std::string& where, const std::string& tensor) {
  if (channels == 5) models::refuse_family("sd2_depth", where + ": " + tensor);
  const char* what = channels == 7 ? "the x4 upscaler" : channels == 8 ? "InstructPix2Pix" : nullptr;
  EMULSION_CHECK(what == nullptr, unsupported,
                 "[{}: {}] this is {}, which is not built; Stable Diffusion 1.x, 2.x and XL base are", where, tensor, what);
}

void refuse_other_folders(const fs::path& folder) {
  const fs::path file = folder / "model_index.json";
  if (!fs::exists(file)) return;
  const auto index = nlohmann::json::parse(io::read_file(file), nullptr, /*allow_exceptions=*/false);
  EMULSION_CHECK(index.is_object(), format, "[{}] expected a JSON object, got something else; fetch it again", file.string());
  const auto name = index.find("_class_name");
  const std::string pipeline = name != index.end() && name->is_string() ? name->get<std::string>() : "";
  for (const auto& [start, family] : kPipelines) {
    if (pipeline.starts_with(start)) models::refuse_family(family, file.string() + ": " + pipeline);
  }
  EMULSION_CHECK(!fs::is_directory(folder / "transformer"), unsupported,
                 "[{}] a '{}' with a 'transformer' is not built; Stable Diffusion 1.x, 2.x and XL base are",
                 folder.string(), pipeline);
}

}  // namespace emulsion::weights
