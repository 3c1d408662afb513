#include "weights/model_folder.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/log.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"
#include "weights/part_folder.h"
#include "weights/part_places.h"
#include "weights/refuse.h"

namespace emulsion::weights {
namespace {

namespace fs = std::filesystem;
using models::Model;

constexpr const char* kDiffusersFile = "diffusion_pytorch_model.safetensors";
constexpr const char* kTransformersFile = "model.safetensors";
constexpr const char* kTextPrefix = "text_model.";
constexpr const char* kFolderParts[] = {"unet", "vae", "text_encoder", "text_encoder_2"};

nlohmann::json json_of(const fs::path& file) {
  if (!fs::exists(file)) return nlohmann::json::object();
  auto json = nlohmann::json::parse(io::read_file(file), nullptr, /*allow_exceptions=*/false);
  return json.is_object() ? json : nlohmann::json::object();
}

// --- Reading -------------------------------------------------------------------------------------------

/// Where a part lies: its own folder within the model's, or the very folder that was given.
fs::path folder_of(const fs::path& folder, const std::string& part) {
  if (fs::is_directory(folder / part)) return folder / part;
  if (fs::exists(folder / "model_index.json") || !fs::exists(folder / "config.json")) return {};
  const auto config = json_of(folder / "config.json");
  const std::string text = config.dump();
  const bool fits = part == "vae"            ? text.find("\"AutoencoderKL\"") != text.npos
                    : part == "unet"         ? text.find("\"UNet2DConditionModel\"") != text.npos
                    : part == "text_encoder" ? text.find("\"CLIPTextModel") != text.npos
                                             : false;
  return fits ? folder : fs::path();
}

/// The names that a file has; where no table knows it, those that it should have, so that what is missing is named.
FoundPart found_part(const io::TensorFile& file, const std::string& part) {
  if (auto found = find_lone_part(file, part)) return std::move(*found);
  const Naming naming = part.starts_with("text_encoder") ? Naming::prefixed_clip : Naming::diffusers;
  return {part, "", naming, PartTensors(file, "")};
}

std::vector<std::string> ignorable_in_folder(const std::string& part, bool with_projection) {
  std::vector<std::string> patterns = ignorable_in(part);
  if (part.starts_with("text_encoder") && !with_projection) patterns.push_back("text_projection*");
  return patterns;
}

bool with_projection(const models::ClipTextConfig& config) { return config.with_projection; }
template <class Config>
bool with_projection(const Config&) {
  return false;
}

template <class Net, class Config>
void load_part(const fs::path& folder, const std::string& part, Config (*parse)(const std::string&, const std::string&),
               const LoadOptions& options, std::unique_ptr<models::Part<Net>>& into) {
  const fs::path where = folder_of(folder, part);
  if (where.empty() || !options.wants(part)) return;
  const fs::path config_file = where / "config.json";
  EMULSION_CHECK(fs::exists(config_file), not_found, "[{}] expected config.json, found {}", where.string(),
                 folder_listing(where));
  into = std::make_unique<models::Part<Net>>(parse(io::read_file(config_file), config_file.string()));
  const io::TensorFile file = io::open_tensor_file(weights_file(where, part, options.variant));
  const FoundPart found = found_part(file, part);
  fill(into->store, found.tensors, rules_of(found.naming, into->net.config()), options.dtype,
       ignorable_in_folder(part, with_projection(into->net.config())), options.report);
  if (options.report) options.report->decide(part, file.path().string());
}

/// Published folders without tokenizers go around; CLIP's is built in.
void load_tokenizers(const fs::path& folder, Model& model) {
  const auto read = [&](const char* name, const auto& encoder, std::optional<models::ClipTokenizer>& into) {
    if (fs::is_directory(folder / name)) {
      into = models::ClipTokenizer::from_folder(folder / name);
    } else if (encoder && encoder->net.config().vocab_size == models::ClipTextConfig().vocab_size) {
      log::warning("{}: has no {}; CLIP's own is used", folder.string(), name);
      into = models::ClipTokenizer::truncated(models::ClipTextConfig().vocab_size - 514);
    }
  };
  read("tokenizer", model.text_encoder, model.tokenizer);
  read("tokenizer_2", model.text_encoder_2, model.tokenizer_2);
}

/// Parts that model_index.json names and that are not there.
void note_lacking_parts(const fs::path& folder, const nlohmann::json& index, const LoadOptions& options) {
  std::vector<std::string> lacking;
  for (const char* part : kFolderParts) {
    const auto entry = index.find(part);
    const bool named = entry != index.end() && entry->is_array() && !entry->empty() && entry->front().is_string();
    if (named && options.wants(part) && !fs::is_directory(folder / part)) lacking.push_back(part);
  }
  if (options.report) options.report->lacking = lacking;
  if (lacking.empty()) return;
  log::warning("{}: {} of model_index.json {} missing; the other parts can be used. Fetch what is missing, or give an "
               "autoencoder with --vae",
               folder.string(), fmt::join(lacking, " and "), lacking.size() == 1 ? "is" : "are");
}

// --- Writing -------------------------------------------------------------------------------------------

Tensor written(const Tensor& value, at::ScalarType dtype) {
  return dtype == at::ScalarType::Undefined ? value.detach() : value.detach().to(dtype);
}

template <class Net>
void save_part(const fs::path& folder, const models::Part<Net>& part, const char* file_name, at::ScalarType dtype,
               const std::string& prefix = "") {
  NamedTensors tensors;
  for (const nn::Param& param : part.store.params()) {
    const bool outside = param.path.starts_with("text_projection.");  // stands beside text_model
    tensors.emplace_back(outside ? param.path : prefix + param.path, written(param.value, dtype));
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

Model load_model_folder(const fs::path& folder, const LoadOptions& options) {
  EMULSION_CHECK(fs::is_directory(folder), not_found,
                 "[model] expected a model folder at '{}', found {}; give the folder that holds model_index.json",
                 folder.string(), fs::exists(folder) ? "a file" : "nothing");
  refuse_other_folders(folder);
  const auto index = json_of(folder / "model_index.json");
  Model model;
  load_part(folder, "vae", models::vae_config_from_json, options, model.vae);
  load_part(folder, "unet", models::unet_config_from_json, options, model.unet);
  load_part(folder, "text_encoder", models::clip_text_config_from_json, options, model.text_encoder);
  load_part(folder, "text_encoder_2", models::clip_text_config_from_json, options, model.text_encoder_2);
  EMULSION_CHECK(!model.components().empty(), not_found,
                 "[model] expected vae, unet or text_encoder in '{}', found {}; give the folder that holds model_index.json",
                 folder.string(), folder_listing(folder));
  if (model.unet) {
    const int64_t channels = model.unet->net.config().in_channels;
    if (index.contains("_class_name")) refuse_input_channels(channels, folder.string(), "in_channels of the U-Net");
  }
  // diffusers' StableDiffusionXLPipeline has it switched on where the file does not say.
  if (model.text_encoder_2) model.zeros_for_empty_prompt = index.value("force_zeros_for_empty_prompt", true);
  load_tokenizers(folder, model);
  const fs::path scheduler = folder / "scheduler" / "scheduler_config.json";
  if (fs::exists(scheduler)) {
    model.scheduler = diffusion::parse_scheduler_config(io::read_file(scheduler), scheduler.string());
  }
  if (options.prediction) model.scheduler.prediction = *options.prediction;
  note_lacking_parts(folder, index, options);
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
