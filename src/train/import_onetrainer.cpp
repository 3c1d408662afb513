// OneTrainer's configurations.
#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "train/import_carrier.h"

namespace emulsion::train {
namespace {

constexpr Named kOneTrainer[] = {{"base_model_name", "model.path"},
                                 {"vae.model_name", "model.vae"},
                                 {"batch_size", "batch_size"},
                                 {"gradient_accumulation_steps", "accumulate"},
                                 {"learning_rate", "optimizer.lr"},
                                 {"clip_grad_norm", "clip"},
                                 {"seed", "seed"},
                                 {"lora_rank", "method.rank"},
                                 {"lora_alpha", "method.alpha"},
                                 {"offset_noise_weight", "objective.noise_offset"},
                                 {"perturbation_noise_weight", "objective.input_perturbation"},
                                 {"concepts.0.path", "data.sources.0.path"},
                                 {"optimizer.beta1", "optimizer.beta1"},
                                 {"optimizer.beta2", "optimizer.beta2"},
                                 {"optimizer.weight_decay", "optimizer.weight_decay"},
                                 {"optimizer.eps", "optimizer.eps"},
                                 {"learning_rate_cycles", "schedule.cycles"}};

}  // namespace

Imported from_onetrainer(Settings settings) {
  Carrier carrier(std::move(settings), "");
  RunConfig& config = carrier.result.config;
  config.data.sources = {{}};
  const std::string method = carrier.take("training_method").value_or("FINE_TUNE");
  const bool is_lora = method == "LORA";
  carrier.set("method.type", is_lora ? "lora" : method == "EMBEDDING" ? "textual_inversion" : "diffusion", "training_method");
  carry_optimizer(carrier, "optimizer.optimizer");
  carry_schedule(carrier, "learning_rate_scheduler");
  if (const auto warmup = carrier.take("learning_rate_warmup_steps"); warmup && number_of(*warmup) > 0) {
    const bool share = number_of(*warmup) <= 1;  // as OneTrainer reads it
    carrier.set(share ? "schedule.warmup_fraction" : "schedule.warmup_steps",
                share ? *warmup : std::to_string(std::llround(number_of(*warmup))), "learning_rate_warmup_steps");
  }
  carry_resolution(carrier, "resolution");
  if (const auto dtype = carrier.take("train_dtype")) carrier.set("dtype", numeric_type(lower(*dtype)), "train_dtype");
  carry_small_memory(carrier, "optimizer.stochastic_rounding", "optimizer.fused_back_pass");
  carrier.set("data.buckets", carrier.take_flag("aspect_ratio_bucketing") ? "true" : "false", "aspect_ratio_bucketing");
  if (const auto ema = carrier.take("ema"); ema && *ema != "OFF") carrier.set("ema.enabled", "true", "ema");
  if (carrier.take_flag("masked_training")) {
    carrier.set("data.sources.0.mask", "beside", "masked_training");
    carrier.carry("unmasked_probability", "data.unmasked_probability");
    carrier.carry("unmasked_weight", "objective.unmasked_weight");
    carrier.carry("normalize_masked_area_loss", "objective.normalize_masked_area");
  }
  const std::string weighting = carrier.take("loss_weight_fn").value_or("CONSTANT");
  const auto strength = carrier.take("loss_weight_strength");
  if (weighting == "MIN_SNR_GAMMA") {
    carrier.set("objective.weighting", "min_snr", "loss_weight_fn");
    if (strength) carrier.set("objective.min_snr_gamma", *strength, "loss_weight_strength");
  } else if (weighting == "DEBIASED_ESTIMATION") {
    carrier.set("objective.weighting", "debiased", "loss_weight_fn");
  } else if (weighting == "P2") {
    carrier.set("objective.weighting", "p2", "loss_weight_fn");
    if (strength) carrier.set("objective.p2_gamma", *strength, "loss_weight_strength");
  }
  if (const auto path = carrier.take("output_model_destination")) {
    carrier.set("name", std::filesystem::path(*path).stem().string(), "output_model_destination");
  }
  std::vector<std::string> known;
  for (const Named& row : kOneTrainer) {
    const bool of_lora = std::string_view(row.ours).starts_with("method.");
    const auto value = carrier.take(row.theirs);
    known.emplace_back(row.theirs);
    if (!value || (of_lora && !is_lora)) continue;
    try {
      carrier.set(row.ours, *value, row.theirs);
    } catch (const Error&) {
      carrier.leave(fmt::format("{} = {}", row.theirs, *value), "has no equal with these settings");
    }
  }
  carrier.leave_rest({{"epochs", "steps count here: set steps to epochs x pictures / batch size"},
                      {"concept_file_name", "give its folders as [[data.sources]]"},
                      {"sample_definition_file_name", "give its prompts as preview.prompts"},
                      {"gradient_checkpointing", "found out in the first step: as few blocks as the memory needs"}},
                     {}, /*strict=*/false);
  return std::move(carrier.result);
}

}  // namespace emulsion::train
