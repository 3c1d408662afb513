#include "weights/model_folder.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"

namespace emulsion::weights {
namespace {

namespace fs = std::filesystem;
using models::Model;

constexpr const char* kDiffusersFile = "diffusion_pytorch_model.safetensors";
constexpr const char* kTransformersFile = "model.safetensors";
constexpr const char* kTextPrefix = "text_model.";

/// The file's tensors under our names. Buffers that are no weights are left out by name.
NamedTensors named_tensors(const io::SafetensorsFile& file) {
  NamedTensors tensors;
  for (const auto& entry : file.entries()) {
    std::string name = entry.name;
    if (name.starts_with(kTextPrefix)) name.erase(0, std::string_view(kTextPrefix).size());
    if (name == "embeddings.position_ids") continue;  // old transformers saved this constant
    tensors.emplace_back(name, file.tensor(entry.name));
  }
  return tensors;
}

/// diffusers' StableDiffusionXLPipeline has it switched on where the file does not say.
bool zeros_for_empty_prompt(const fs::path& file) {
  if (!fs::exists(file)) return true;
  const auto index = nlohmann::json::parse(io::read_file(file), nullptr, /*allow_exceptions=*/false);
  return !index.is_object() || index.value("force_zeros_for_empty_prompt", true);
}

std::string list_some(const std::vector<std::string>& names) {
  const size_t shown = std::min<size_t>(names.size(), 5);
  std::string text = fmt::format("{}", fmt::join(names.begin(), names.begin() + shown, ", "));
  return names.size() > shown ? text + fmt::format(" and {} more", names.size() - shown) : text;
}

std::string folder_listing(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names.empty() ? "nothing" : list_some(names);
}

fs::path weights_file(const fs::path& part, const char* name) {
  if (fs::exists(part / name)) return part / name;
  throw Error(ErrorCode::not_found, fmt::format("[{}] expected {}, found {}", part.string(), name, folder_listing(part)));
}

template <class Net, class Config>
std::unique_ptr<models::Part<Net>> load_part(const fs::path& part, Config (*parse)(const std::string&, const std::string&),
                                             const char* file_name, at::ScalarType dtype) {
  const fs::path config_file = part / "config.json";
  EMULSION_CHECK(fs::exists(config_file), not_found, "[{}] expected config.json, found {}", part.string(),
                 folder_listing(part));
  auto made = std::make_unique<models::Part<Net>>(parse(io::read_file(config_file), config_file.string()));
  load_component(made->store, weights_file(part, file_name), dtype);
  return made;
}

template <class Net>
void save_part(const fs::path& folder, const models::Part<Net>& part, const char* file_name, at::ScalarType dtype,
               const std::string& prefix = "") {
  NamedTensors tensors;
  for (const nn::Param& param : part.store.params()) {
    const bool outside = param.path.starts_with("text_projection.");  // stands beside text_model
    tensors.emplace_back(outside ? param.path : prefix + param.path, param.value.detach().to(dtype));
  }
  io::write_file_atomic(folder / "config.json", to_json(part.net.config()));
  io::write_safetensors(folder / file_name, tensors, {{"format", "pt"}});
}

const char* pipeline_class(const Model& model) {
  if (model.text_encoder_2) return "StableDiffusionXLPipeline";
  const bool inpainting = model.unet && model.unet->net.config().in_channels != model.unet->net.config().out_channels;
  return inpainting ? "StableDiffusionInpaintPipeline" : "StableDiffusionPipeline";
}

std::string model_index(const Model& model) {
  const auto part = [](bool there, const char* library, const char* type) {
    return there ? nlohmann::ordered_json{library, type} : nlohmann::ordered_json{nullptr, nullptr};
  };
  nlohmann::ordered_json index = {
      {"_class_name", pipeline_class(model)},
      {"_diffusers_version", "0.42.0"},
      {"feature_extractor", {nullptr, nullptr}},
      {"image_encoder", {nullptr, nullptr}},
      {"requires_safety_checker", false},
      {"safety_checker", {nullptr, nullptr}},
      {"scheduler", {"diffusers", model.scheduler.class_name}},
      {"text_encoder", part(model.text_encoder != nullptr, "transformers", "CLIPTextModel")},
      {"tokenizer", part(model.tokenizer.has_value(), "transformers", "CLIPTokenizer")},
      {"unet", part(model.unet != nullptr, "diffusers", "UNet2DConditionModel")},
      {"vae", part(model.vae != nullptr, "diffusers", "AutoencoderKL")}};
  if (model.text_encoder_2) {
    index["text_encoder_2"] = part(true, "transformers", "CLIPTextModelWithProjection");
    index["tokenizer_2"] = part(model.tokenizer_2.has_value(), "transformers", "CLIPTokenizer");
    index["force_zeros_for_empty_prompt"] = model.zeros_for_empty_prompt;
    for (const char* key : {"requires_safety_checker", "safety_checker"}) index.erase(key);
  }
  return index.dump(2) + "\n";
}

}  // namespace

void load_component(nn::ParamStore& store, const fs::path& path, at::ScalarType dtype) {
  const auto file = io::SafetensorsFile::open(path);
  std::vector<std::string> missing, unexpected;
  std::set<std::string> filled;
  for (const auto& [name, value] : named_tensors(file)) {
    nn::Param* param = store.find(name);
    if (!param) {
      unexpected.push_back(name);
      continue;
    }
    with_context("loading " + path.string(), [&] { store.assign(*param, value.to(dtype)); });
    filled.insert(name);
  }
  for (const nn::Param& param : store.params()) {
    if (!filled.contains(param.path)) missing.push_back(param.path);
  }
  EMULSION_CHECK(missing.empty() && unexpected.empty(), format,
                 "[{}] its tensors are not those that config.json describes: {} missing{}{}; {} unexpected{}{}",
                 path.string(), missing.size(), missing.empty() ? "" : ": ", list_some(missing), unexpected.size(),
                 unexpected.empty() ? "" : ": ", list_some(unexpected));
}

Model load_model_folder(const fs::path& folder, const LoadOptions& options) {
  EMULSION_CHECK(fs::is_directory(folder), not_found,
                 "[model] expected a model folder at '{}', found {}; give the folder that holds model_index.json",
                 folder.string(), fs::exists(folder) ? "a file" : "nothing");
  const auto wanted = [&](const char* name) {
    return fs::is_directory(folder / name) && (options.parts.empty() || options.parts.contains(name));
  };
  Model model;
  if (wanted("vae")) {
    model.vae = load_part<models::Vae>(folder / "vae", models::vae_config_from_json, kDiffusersFile, options.dtype);
  }
  if (wanted("unet")) {
    model.unet = load_part<models::UNet>(folder / "unet", models::unet_config_from_json, kDiffusersFile, options.dtype);
  }
  if (wanted("text_encoder")) {
    model.text_encoder = load_part<models::ClipText>(folder / "text_encoder", models::clip_text_config_from_json,
                                                     kTransformersFile, options.dtype);
  }
  if (wanted("text_encoder_2")) {
    model.text_encoder_2 = load_part<models::ClipText>(folder / "text_encoder_2", models::clip_text_config_from_json,
                                                       kTransformersFile, options.dtype);
    model.zeros_for_empty_prompt = zeros_for_empty_prompt(folder / "model_index.json");
  }
  EMULSION_CHECK(!model.components().empty(), not_found,
                 "[model] expected vae, unet or text_encoder in '{}', found {}; give the folder that holds model_index.json",
                 folder.string(), folder_listing(folder));
  if (fs::is_directory(folder / "tokenizer")) model.tokenizer = models::ClipTokenizer::from_folder(folder / "tokenizer");
  if (fs::is_directory(folder / "tokenizer_2")) {
    model.tokenizer_2 = models::ClipTokenizer::from_folder(folder / "tokenizer_2");
  }
  const fs::path scheduler = folder / "scheduler" / "scheduler_config.json";
  if (fs::exists(scheduler)) {
    model.scheduler = diffusion::parse_scheduler_config(io::read_file(scheduler), scheduler.string());
  }
  return model;
}

void save_model_folder(const fs::path& folder, const Model& model, at::ScalarType dtype) {
  fs::create_directories(folder);
  if (model.vae) save_part(folder / "vae", *model.vae, kDiffusersFile, dtype);
  if (model.unet) save_part(folder / "unet", *model.unet, kDiffusersFile, dtype);
  if (model.text_encoder) save_part(folder / "text_encoder", *model.text_encoder, kTransformersFile, dtype, kTextPrefix);
  if (model.text_encoder_2) {
    save_part(folder / "text_encoder_2", *model.text_encoder_2, kTransformersFile, dtype, kTextPrefix);
  }
  if (model.tokenizer) model.tokenizer->save(folder / "tokenizer");
  if (model.tokenizer_2) model.tokenizer_2->save(folder / "tokenizer_2");
  io::write_file_atomic(folder / "scheduler" / "scheduler_config.json", diffusion::to_json(model.scheduler));
  io::write_file_atomic(folder / "model_index.json", model_index(model));
}

}  // namespace emulsion::weights
