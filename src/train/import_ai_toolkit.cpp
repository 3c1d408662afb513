// ai-toolkit's jobs: config/*.yaml of the kind "extension" or "train" with a process "sd_trainer".
#include <filesystem>

#include "core/error.h"
#include "train/import_carrier.h"

namespace emulsion::train {
namespace {

constexpr const char* kProcess = "config.process.0.";

constexpr Named kAiToolkit[] = {{"training_folder", "output"},
                                {"model.name_or_path", "model.path"},
                                {"model.vae_path", "model.vae"},
                                {"train.batch_size", "batch_size"},
                                {"train.steps", "steps"},
                                {"train.gradient_accumulation_steps", "accumulate"},
                                {"train.gradient_accumulation", "accumulate"},
                                {"train.lr", "optimizer.lr"},
                                {"train.max_grad_norm", "clip"},
                                {"train.noise_offset", "objective.noise_offset"},
                                {"train.optimizer_params.weight_decay", "optimizer.weight_decay"},
                                {"train.lr_scheduler_params.warmup_steps", "schedule.warmup_steps"},
                                {"train.ema_config.use_ema", "ema.enabled"},
                                {"train.min_denoising_steps", "objective.min_timestep"},
                                {"train.max_denoising_steps", "objective.max_timestep"},
                                {"save.save_every", "checkpoint.every"},
                                {"save.max_step_saves_to_keep", "checkpoint.keep"},
                                {"sample.sample_every", "preview.every"},
                                {"sample.seed", "preview.seed"},
                                {"sample.guidance_scale", "preview.cfg"},
                                {"sample.sample_steps", "preview.steps"}};

constexpr Named kDataset[] = {{"folder_path", "path"},          {"num_repeats", "repeats"}, {"loss_multiplier", "weight"},
                              {"mask_path", "mask"},            {"trigger_word", "trigger"}};
/// What is theirs for each data set, and ours for all.
constexpr Named kOfAllDatasets[] = {{"caption_dropout_rate", "data.caption_dropout"},
                                    {"token_dropout_rate", "data.tag_dropout"},
                                    {"shuffle_tokens", "data.shuffle_tags"},
                                    {"keep_tokens", "data.keep_tags"}};

const std::map<std::string, std::string>& left() {
  static const std::map<std::string, std::string> all = {
      {"job", "read by itself"},
      {"meta.name", "not needed"},
      {"meta.version", "not needed"},
      {"type", "read by itself"},
      {"device", "the machine's own"},
      {"save.dtype", "float32; emulsion convert rounds"},
      {"train.gradient_checkpointing", "found out in the first step: as few blocks as the memory needs"},
      {"train.noise_scheduler", "a loaded model's own scheduler says so"},
      {"train.train_unet", "say in method.targets what trains"},
      {"model.is_xl", "found out from the model itself"},
      {"model.is_v2", "found out from the model itself"},
      {"model.arch", "found out from the model itself"},
      {"model.quantize", "of no effect on the result here: its speed and memory are this program's own matter"},
      {"sample.sampler", "previews take the model's own sampler"},
      {"sample.walk_seed", "each preview picture has a seed of its own"},
      {"sample.width", "previews have the training's resolution"},
      {"sample.height", "previews have the training's resolution"},
      {"sample.neg", kNotBuilt}};
  return all;
}

/// As the field's programs know them: which networks carry adapters.
std::vector<std::string> targets(bool conv, bool unet, bool text) {
  std::vector<std::string> all;
  if (unet) all = {"unet.*.attn*.to_*", "unet.*.ff.net.*", "unet.*.proj_in", "unet.*.proj_out"};
  if (unet && conv) all.insert(all.end(), {"unet.*.conv1", "unet.*.conv2", "unet.*samplers.*"});
  if (text) all.insert(all.end(), {"text_encoder*.self_attn.*_proj", "text_encoder*.mlp.fc*"});
  return all;
}

void carry_network(Carrier& carrier, bool unet, bool text) {
  const std::string type = carrier.take("network.type").value_or("lora");
  carrier.set("method.type", "lora", "network.type");
  if (type == "lokr") carrier.set("method.algo", "lokr", "network.type");
  if (type != "lora" && type != "lokr") carrier.leave("network.type = " + type, "this kind is not built; a LoRA takes its place");
  carrier.set("method.rank", "4", "network.linear");  // theirs, where nothing is said
  carrier.carry("network.linear", "method.rank");
  carrier.set("method.alpha", carrier.take("network.linear_alpha").value_or("1"), "network.linear_alpha");
  carrier.carry("network.conv", "method.conv_rank");
  carrier.carry("network.conv_alpha", "method.conv_alpha");
  carrier.carry("network.dropout", "method.dropout");
  carrier.carry("network.lokr_factor", "method.factor");
  carrier.carry("network.pretrained_lora_path", "method.start");
  auto& lora = std::get<LoraMethod>(carrier.result.config.method);
  lora.targets = targets(lora.conv_rank > 0, unet, text);
}

/// Several resolutions train there; here the largest.
void carry_resolutions(Carrier& carrier, const std::string& key) {
  const std::vector<std::string> sides = carrier.take_list(key);
  double largest = 0;
  for (const std::string& side : sides) largest = std::max(largest, number_of(side));
  if (largest > 0) carrier.set("data.resolution", fmt::format("{:.0f}", largest), key);
  if (sides.size() > 1)
    carrier.leave(fmt::format("{} = {}", key, fmt::join(sides, " ")), "one resolution trains here, the largest; buckets keep proportions");
}

void carry_datasets(Carrier& carrier, const Settings& all) {
  const auto trigger = carrier.take("trigger_word");
  carrier.result.config.data.sources.clear();
  for (size_t i = 0; all.contains(fmt::format("datasets.{}.folder_path", i)); ++i) {
    carrier.result.config.data.sources.emplace_back();
    const std::string theirs = fmt::format("datasets.{}.", i), ours = fmt::format("data.sources.{}.", i);
    if (trigger) carrier.set(ours + "trigger", *trigger, "trigger_word");
    for (const Named& row : kDataset) carrier.carry(theirs + row.theirs, ours + row.ours);
    if (carrier.take_flag(theirs + "alpha_mask")) carrier.set(ours + "mask", "alpha", theirs + "alpha_mask");
    if (carrier.take_flag(theirs + "flip_x")) carrier.set("data.flip", "0.5", theirs + "flip_x");
    if (carrier.take_flag(theirs + "random_crop")) carrier.set("data.crop", "random", theirs + "random_crop");
    carrier.take(theirs + "cache_latents_to_disk");
    carrier.take(theirs + "cache_latents");
    if (const auto ending = carrier.take(theirs + "caption_ext"); ending && *ending != "txt" && *ending != ".txt")
      carrier.leave(theirs + "caption_ext = " + *ending, ".txt and .caption are read");
    carry_resolutions(carrier, theirs + "resolution");
    for (const Named& row : kOfAllDatasets) carrier.carry(theirs + row.theirs, row.ours);
    if (carrier.take_flag(theirs + "is_reg"))
      carrier.leave(theirs + "is_reg = true", "give the class as [[priors]] with its prompt and this path");
  }
}

}  // namespace

bool is_ai_toolkit(const Settings& settings) {
  return settings.contains(std::string(kProcess) + "type") || settings.contains(std::string(kProcess) + "train.steps");
}

Imported from_ai_toolkit(Settings settings) {
  Settings shorter;
  for (auto& [key, values] : settings) {
    const bool of_process = key.starts_with(kProcess);
    shorter[of_process ? key.substr(std::string_view(kProcess).size()) : key] = std::move(values);
  }
  const Settings all = shorter;
  Carrier carrier(std::move(shorter), "");
  RunConfig& config = carrier.result.config;
  for (const char* family : {"model.is_flux", "model.is_v3", "model.is_pixart", "model.is_lumina2"}) {
    EMULSION_CHECK(!carrier.take_flag(family), unsupported, "{} = true: this kind of model is not built; Stable Diffusion 1, 2 and XL are",
                   family);
  }
  config.batch_size = 1;
  carrier.carry("config.name", "name");
  carry_datasets(carrier, all);
  carry_optimizer(carrier, "train.optimizer");
  carry_schedule(carrier, "train.lr_scheduler");
  const bool unet = carrier.take("train.train_unet").value_or("true") == "true", text = carrier.take_flag("train.train_text_encoder");
  if (all.contains("network.type") || all.contains("network.linear")) {
    carry_network(carrier, unet, text);
  } else {
    carrier.set("method.type", "diffusion", "");
    std::get<DiffusionMethod>(config.method).train_text_encoder = text;
  }
  if (const auto dtype = carrier.take("train.dtype"))
    carrier.set("dtype", *dtype == "fp32" || *dtype == "float" ? "float32" : numeric_type(*dtype), "train.dtype");
  if (const auto decay = carrier.take("train.ema_config.ema_decay"); decay && all.contains("train.ema_config.use_ema"))
    carrier.set("ema.decay", *decay, "train.ema_config.ema_decay");
  for (const char* gamma : {"train.min_snr_gamma", "train.snr_gamma"}) {
    const auto value = carrier.take(gamma);
    if (!value) continue;
    carrier.set("objective.weighting", "min_snr", gamma);
    carrier.set("objective.min_snr_gamma", *value, gamma);
  }
  if (const auto loss = carrier.take("train.loss_type"); loss && *loss != "mse") {
    if (*loss == "mae") carrier.set("objective.loss", "l1", "train.loss_type");
    if (*loss != "mae") carrier.leave("train.loss_type = " + *loss, "not built; the squared error takes its place");
  }
  config.preview.prompts = carrier.take_list("sample.prompts");
  for (const Named& row : kAiToolkit) {
    try {
      carrier.carry(row.theirs, row.ours);
    } catch (const Error& error) {
      carrier.leave(row.theirs, error.what());
    }
  }
  carrier.leave_rest(left(), {}, /*strict=*/false);
  return std::move(carrier.result);
}

}  // namespace emulsion::train
