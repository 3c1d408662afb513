// kohya's sd-scripts and its GUI, whose names are nearly the same.
#include <cctype>
#include <cmath>

#include "train/import_carrier.h"

namespace emulsion::train {
namespace {

constexpr Named kKohya[] = {{"pretrained_model_name_or_path", "model.path"},
                            {"vae", "model.vae"},
                            {"output_dir", "output"},
                            {"output_name", "name"},
                            {"train_data_dir", "data.sources.0.path"},
                            {"train_batch_size", "batch_size"},
                            {"max_train_steps", "steps"},
                            {"gradient_accumulation_steps", "accumulate"},
                            {"max_grad_norm", "clip"},
                            {"seed", "seed"},
                            {"min_bucket_reso", "data.bucket_min"},
                            {"max_bucket_reso", "data.bucket_max"},
                            {"bucket_reso_steps", "data.bucket_step"},
                            {"keep_tokens", "data.keep_tags"},
                            {"caption_dropout_rate", "data.caption_dropout"},
                            {"caption_tag_dropout_rate", "data.tag_dropout"},
                            {"noise_offset", "objective.noise_offset"},
                            {"adaptive_noise_scale", "objective.noise_offset_adaptive"},
                            {"multires_noise_iterations", "objective.pyramid_iterations"},
                            {"multires_noise_discount", "objective.pyramid_discount"},
                            {"ip_noise_gamma", "objective.input_perturbation"},
                            {"min_timestep", "objective.min_timestep"},
                            {"loss_type", "objective.loss"},
                            {"huber_c", "objective.huber_c"},
                            {"huber_scale", "objective.huber_scale"},
                            {"huber_schedule", "objective.huber_schedule"},
                            {"lr_scheduler_num_cycles", "schedule.cycles"},
                            {"lr_scheduler_power", "schedule.power"},
                            {"lr_scheduler_min_lr_ratio", "schedule.min_ratio"},
                            {"save_every_n_steps", "checkpoint.every"},
                            {"sample_every_n_steps", "preview.every"},
                            {"clip_skip", "text.clip_skip"}};

struct Flag {
  const char *theirs, *path, *value;
};
constexpr Flag kKohyaFlags[] = {{"weighted_captions", "text.weighted", "true"},
                                {"shuffle_caption", "data.shuffle_tags", "true"},
                                {"flip_aug", "data.flip", "0.5"},
                                {"random_crop", "data.crop", "random"},
                                {"bucket_no_upscale", "data.upscale", "false"},
                                {"cache_latents", "data.cache_latents", "true"},
                                {"noise_offset_random_strength", "objective.noise_offset_random", "true"},
                                {"ip_noise_gamma_random_strength", "objective.input_perturbation_random", "true"},
                                {"debiased_estimation_loss", "objective.weighting", "debiased"},
                                {"scale_v_pred_loss_like_noise_pred", "objective.scale_v_loss", "true"}};

constexpr const char* kSpeed = "a matter of speed or memory that is chosen by the program itself";
constexpr const char* kFromModel = "the model file says so itself";

const std::map<std::string, std::string>& kohya_left() {
  static const std::map<std::string, std::string> all = {
      {"xformers", kSpeed},
      {"sdpa", kSpeed},
      {"mem_eff_attn", kSpeed},
      {"lowram", kSpeed},
      {"highvram", kSpeed},
      {"no_half_vae", kSpeed},
      {"full_fp16", kSpeed},
      {"fp8_base", kSpeed},
      {"torch_compile", kSpeed},
      {"vae_batch_size", kSpeed},
      {"gradient_checkpointing", "found out in the first step: as few blocks as the memory needs"},
      {"cache_latents_to_disk", "cached latents are always kept on disk"},
      {"cache_text_encoder_outputs", "they are cached where they cannot change"},
      {"persistent_data_loader_workers", kSpeed},
      {"max_data_loader_n_workers", kSpeed},
      {"num_cpu_threads_per_process", kSpeed},
      {"v2", kFromModel},
      {"v_parameterization", kFromModel},
      {"sdxl", kFromModel},
      {"max_token_length", "captions may have any length"},
      {"caption_extension", ".txt and .caption are both read"},
      {"save_model_as", "safetensors, always"},
      {"save_precision", "float32; emulsion convert rounds"},
      {"logging_dir", "metrics, curves and TensorBoard are in the run folder"},
      {"log_with", "metrics, curves and TensorBoard are in the run folder"},
      {"log_prefix", "metrics, curves and TensorBoard are in the run folder"},
      {"training_comment", kNotBuilt},
      {"config_file", "read by itself"},
      {"max_train_epochs", "steps count here: set steps to epochs x pictures x repeats / batch size"},
      {"epoch", "steps count here: set steps to epochs x pictures x repeats / batch size"},
      {"save_every_n_epochs", "steps count here: set checkpoint.every"},
      {"sample_every_n_epochs", "steps count here: set preview.every"},
      {"sample_prompts", "give them as preview.prompts"},
      {"sample_sampler", "previews take the model's own sampler"},
      {"reg_data_dir", "give each class as [[priors]] with its prompt and this path"},
      {"prior_loss_weight", "give it as priors.weight"},
      {"dataset_config", "give its folders as [[data.sources]]"},
      {"in_json", "metadata.jsonl beside the pictures is read"},
      {"color_aug", kNotBuilt},
      {"face_crop_aug_range", kNotBuilt},
      {"masked_loss", "give alpha_mask or conditioning_data_dir with it, or data.sources.mask"},
      {"token_warmup_step", kNotBuilt},
      {"token_warmup_min", kNotBuilt},
      {"dim_from_weights", "always so where an adapter is given to go on from"},
      {"zero_terminal_snr", "a loaded model's own scheduler says so"},
      {"v_pred_like_loss", kNotBuilt},
      {"caption_dropout_every_n_epochs", kNotBuilt},
      {"resume", "the same command goes on by itself"},
      {"save_state", "the whole state is always saved"},
      {"save_last_n_steps", "give checkpoint.keep"}};
  return all;
}

void carry_masks(Carrier& carrier) {
  const auto folder = carrier.take("conditioning_data_dir");
  const bool alpha = carrier.take_flag("alpha_mask");
  if (!folder && !alpha) return;
  carrier.set("data.sources.0.mask", folder.value_or("alpha"), folder ? "conditioning_data_dir" : "alpha_mask");
  carrier.take("masked_loss");
}

void carry_network(Carrier& carrier, RunConfig& config) {
  auto arguments = pairs_of(carrier.take_list("network_args"));
  const std::string module = carrier.take("network_module").value_or("networks.lora");
  const auto argument = [&](const char* name) {
    const auto found = arguments.extract(name);
    return found.empty() ? std::string() : found.mapped();
  };
  carrier.set("method.type", "lora", "network_module");
  carrier.set("method.rank", "4", "network_dim");
  carrier.set("method.alpha", "1", "network_alpha");
  const std::string algo = argument("algo");
  if (!algo.empty() && algo != "locon" && algo != "lora") carrier.set("method.algo", algo, "network_args algo");
  if (module != "networks.lora" && module != "lycoris.kohya") {
    carrier.leave("network_module = " + module, "this kind is not built; a LoRA takes its place");
  }
  carrier.carry("network_dim", "method.rank");
  carrier.carry("network_alpha", "method.alpha");
  carrier.carry("network_dropout", "method.dropout");
  carrier.carry("network_weights", "method.start");
  carrier.carry("scale_weight_norms", "method.max_norm");
  const auto merged = carrier.take_list("base_weights"), strengths = carrier.take_list("base_weights_multiplier");
  for (size_t i = 0; i < merged.size(); ++i) {
    carrier.result.config.model.merge.push_back({merged[i], i < strengths.size() ? number_of(strengths[i]) : 1.0});
  }
  for (const Named& row : std::initializer_list<Named>{{"conv_dim", "method.conv_rank"},
                                                       {"conv_alpha", "method.conv_alpha"},
                                                       {"rank_dropout", "method.rank_dropout"},
                                                       {"module_dropout", "method.module_dropout"},
                                                       {"loraplus_lr_ratio", "method.lora_plus"},
                                                       {"factor", "method.factor"},
                                                       {"dora_wd", "method.dora"},
                                                       {"use_tucker", "method.tucker"}}) {
    const std::string value = argument(row.theirs);
    if (value.empty()) continue;
    carrier.set(row.ours, std::isalpha(static_cast<unsigned char>(value[0])) ? truth(value) : value, row.theirs);
  }
  const std::string norms = argument("train_norm");

  auto& lora = std::get<LoraMethod>(config.method);
  lora.targets = {"unet.*.attn*.to_*", "unet.*.ff.net.*", "unet.*.proj_in", "unet.*.proj_out"};
  if (lora.conv_rank > 0) lora.targets.insert(lora.targets.end(), {"unet.*.conv1", "unet.*.conv2", "unet.*samplers.*"});
  const bool unet_only = carrier.take_flag("network_train_unet_only"),
             text_only = carrier.take_flag("network_train_text_encoder_only");
  const bool train_norms = !norms.empty() && truth(norms) == "true";
  if (train_norms && !text_only) lora.norms.push_back("unet.*norm*");
  if (train_norms && !unet_only) lora.norms.push_back("text_encoder*norm*");
  if (text_only) lora.targets.clear();
  if (!unet_only) lora.targets.insert(lora.targets.end(), {"text_encoder*.self_attn.*_proj", "text_encoder*.mlp.fc*"});

  carry_blocks(carrier, arguments, lora);
  for (const auto& [name, value] : arguments) carrier.leave(fmt::format("network_args {}={}", name, value), kNotBuilt);

  const auto lr = carrier.take("learning_rate"), unet = carrier.take("unet_lr"), text = carrier.take("text_encoder_lr");
  const std::string rate = unet.value_or(lr.value_or(""));
  if (!rate.empty()) carrier.set("optimizer.lr", rate, unet ? "unet_lr" : "learning_rate");
  if (text && !unet_only && !rate.empty() && *text != rate) {
    if (number_of(*text) == 0) {
      std::erase_if(lora.targets, [](const std::string& target) { return target.starts_with("text_encoder"); });
    } else {
      lora.layers.push_back({.pattern = "text_encoder*", .lr = number_of(*text) / number_of(rate)});
    }
  }
}

}  // namespace

Imported from_kohya(Settings settings, const std::string& prefix, bool strict) {
  static const std::map<std::string, std::string> kOfGui = {
      {"optimizer", "optimizer_type"}, {"max_resolution", "resolution"}, {"lr_warmup_steps_override", "lr_warmup_steps"}};
  for (const auto& [gui, script] : kOfGui) {
    auto node = settings.extract(gui);
    if (node.empty()) continue;
    node.key() = script;
    settings.insert(std::move(node));
  }
  const bool network = settings.contains("network_module") || settings.contains("network_dim") || settings.contains("LoRA_type");
  Carrier carrier(std::move(settings), prefix);
  carrier.take("LoRA_type");
  RunConfig& config = carrier.result.config;
  config.data.sources = {{}};
  carry_masks(carrier);
  // What its scripts take where nothing is said.
  config.batch_size = 1;
  config.steps = 1600;
  carry_optimizer(carrier, "optimizer_type");
  if (carrier.take_flag("use_8bit_adam")) carrier.set("optimizer.type", "adamw_8bit", "use_8bit_adam");
  if (network) {
    carry_network(carrier, config);
  } else {
    carrier.set("method.type", "diffusion", "");
    carrier.carry("learning_rate", "optimizer.lr");
  }
  carry_optimizer_arguments(carrier, pairs_of(carrier.take_list("optimizer_args")));
  carry_schedule(carrier, "lr_scheduler");
  if (const auto warmup = carrier.take("lr_warmup_steps"); warmup && *warmup != "0") {
    carrier.set(number_of(*warmup) < 1 ? "schedule.warmup_fraction" : "schedule.warmup_steps", *warmup, "lr_warmup_steps");
  }
  if (const auto percent = carrier.take("lr_warmup"); percent && *percent != "0") {
    carrier.set("schedule.warmup_fraction", fmt::format("{}", number_of(*percent) / 100), "lr_warmup");
  }
  carry_resolution(carrier, "resolution");
  if (const auto dtype = carrier.take("mixed_precision")) {
    carrier.set("dtype", numeric_type(*dtype), "mixed_precision");
    if (*dtype == "fp16") carrier.leave("mixed_precision = fp16", "bfloat16 takes its place, which needs no loss scaling");
  }
  carry_small_memory(carrier, "full_bf16", "fused_backward_pass");
  carrier.set("data.buckets", carrier.take_flag("enable_bucket") ? "true" : "false", "enable_bucket");
  if (const auto gamma = carrier.take("min_snr_gamma"); gamma && number_of(*gamma) > 0) {
    carrier.set("objective.weighting", "min_snr", "min_snr_gamma");
    carrier.set("objective.min_snr_gamma", *gamma, "min_snr_gamma");
  }
  if (const auto last = carrier.take("max_timestep"); last && *last != "1000") {
    carrier.set("objective.max_timestep", std::to_string(std::llround(number_of(*last)) - 1),
                "max_timestep");  // theirs is not reached
  }
  std::vector<std::string> known = {"use_8bit_adam",
                                    "resolution",
                                    "mixed_precision",
                                    "full_bf16",
                                    "fused_backward_pass",
                                    "enable_bucket",
                                    "min_snr_gamma",
                                    "max_timestep",
                                    "optimizer_type",
                                    "optimizer_args",
                                    "lr_scheduler",
                                    "lr_warmup_steps",
                                    "network_module",
                                    "network_args",
                                    "network_dim",
                                    "network_alpha",
                                    "network_dropout",
                                    "learning_rate",
                                    "unet_lr",
                                    "text_encoder_lr",
                                    "network_train_unet_only",
                                    "network_train_text_encoder_only"};
  for (const Named& row : kKohya) {
    carrier.carry(row.theirs, row.ours);
    known.emplace_back(row.theirs);
  }
  for (const Flag& flag : kKohyaFlags) {
    if (carrier.take_flag(flag.theirs)) carrier.set(flag.path, flag.value, flag.theirs);
    known.emplace_back(flag.theirs);
  }
  carrier.leave_rest(kohya_left(), known, strict);
  return std::move(carrier.result);
}

}  // namespace emulsion::train
