// Settings of other trainers: what arrives, what is left with its reason, and slips of the pen.
#include "train/import.h"

#include "train/tiny_runs.h"

namespace emulsion::train {
namespace {

using test::expect_contains;

class ImportTest : public ::testing::Test {
 protected:
  Imported import(const std::string& name, const std::string& text) {
    std::ofstream(folder / name) << text;
    return import_settings(folder / name);
  }
  std::string refusal(const std::string& name, const std::string& text) {
    return test::error_message([&] { import(name, text); });
  }
  static std::string reason_for(const Imported& imported, const std::string& setting) {
    for (const auto& left : imported.left) {
      if (left.setting.find(setting) != std::string::npos) return left.reason;
    }
    return "";
  }
  test::TempFolder folder;
};

constexpr const char* kCommand = R"(#!/bin/bash
accelerate launch --num_cpu_threads_per_process 1 train_network.py \
  --pretrained_model_name_or_path="models/my model.safetensors" --train_data_dir pictures \
  --output_dir=out --output_name style --resolution=512,768 --train_batch_size 2 --max_train_steps=1200 \
  --network_module=networks.lora --network_dim 32 --network_alpha=16 --network_dropout 0.1 \
  --network_args "conv_dim=8" "conv_alpha=4" "rank_dropout=0.2" "block_dims=2,2" \
  --unet_lr 1e-4 --text_encoder_lr=5e-5 --optimizer_type AdamW8bit --optimizer_args weight_decay=0.1 betas=0.9,0.99 \
  --lr_scheduler cosine_with_restarts --lr_scheduler_num_cycles 3 --lr_warmup_steps 100 \
  --mixed_precision fp16 --enable_bucket --min_bucket_reso 256 --bucket_no_upscale --flip_aug --shuffle_caption --keep_tokens=1 \
  --noise_offset 0.05 --min_snr_gamma=5 --loss_type huber --huber_schedule snr --max_timestep 900 --seed 42 --xformers --clip_skip 2 \
  --network_weights old.safetensors --dim_from_weights --scale_weight_norms 1.5 --masked_loss --conditioning_data_dir masks \
  --base_weights a.safetensors b.safetensors --base_weights_multiplier 0.5
)";

TEST_F(ImportTest, KohyasBlocksBecomeRulesForLayers) {
  const auto lora_of = [&](const std::string& arguments) {
    const Imported imported = import("a.toml", "network_module = \"networks.lora\"\nnetwork_args = [" + arguments + "]\n");
    return std::pair(std::get<LoraMethod>(imported.config.method), reason_for(imported, "network_args"));
  };
  const auto [sd, none] = lora_of("\"block_dims=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24\", "
                                  "\"mid_lr_weight=0.5\", \"down_lr_weight=1,2,3,4,5,6,7,0,9,10,11,12\"");
  EXPECT_EQ(none, "");
  const auto rule = [](const LoraMethod& lora, const std::string& pattern) {
    const auto found = std::ranges::find(lora.layers, pattern, &adapters::LayerRule::pattern);
    return found == lora.layers.end() ? std::pair<int64_t, double>() : std::pair(found->rank, found->lr);
  };
  EXPECT_EQ(sd.layers.size(), 6u - 1 + 1 + 9);
  EXPECT_EQ(rule(sd, "unet.down_blocks.0.attentions.0.*"), std::pair(int64_t{1}, 2.0));
  EXPECT_EQ(rule(sd, "unet.down_blocks.1.attentions.1.*"), std::pair(int64_t{5}, 6.0));
  EXPECT_EQ(rule(sd, "unet.mid_block.attentions.0.*"), std::pair(int64_t{12}, 0.5));
  EXPECT_EQ(rule(sd, "unet.up_blocks.1.attentions.0.*"), std::pair(int64_t{16}, 1.0));
  EXPECT_EQ(sd.targets.back().substr(0, 1) == "!" ? sd.targets.back() : "", "!unet.down_blocks.2.attentions.0.*");
  // SDXL's lists, with convolutions: 9 + 3 + 9. Ranks and alphas are those of the transformers, rates of everything.
  const auto [xl, nothing] = lora_of("\"conv_dim=4\", \"block_alphas=9,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,9\", "
                                     "\"up_lr_weight=1,1,0.5,1,1,2,1,1,1\"");
  EXPECT_EQ(nothing, "");
  EXPECT_EQ(xl.layers.size(), 4u + 1 + 6 + 2 * 2);
  const auto alpha = std::ranges::find(xl.layers, "unet.up_blocks.0.attentions.2.*", &adapters::LayerRule::pattern);
  ASSERT_NE(alpha, xl.layers.end());
  EXPECT_EQ(alpha->alpha, 14);
  EXPECT_EQ(rule(xl, "unet.up_blocks.0.attentions.2.*").second, 0.5);
  EXPECT_EQ(rule(xl, "unet.up_blocks.0.resnets.2.*"), std::pair(int64_t{0}, 0.5));
  EXPECT_EQ(rule(xl, "unet.up_blocks.1.upsamplers.*"), std::pair(int64_t{0}, 2.0));
  const auto [unknown, reason] = lora_of("\"down_lr_weight=sine\"");
  EXPECT_NE(reason.find("by name"), reason.npos);
  EXPECT_TRUE(unknown.layers.empty());
}

TEST_F(ImportTest, ACommandLineOfKohyaArrives) {
  const Imported imported = import("train.sh", kCommand);
  const RunConfig& c = imported.config;
  const auto& lora = std::get<LoraMethod>(c.method);
  EXPECT_EQ(c.model.path, "models/my model.safetensors");
  EXPECT_EQ(c.data.sources.at(0).path, "pictures");
  EXPECT_EQ(c.output + "/" + c.name, "out/style");
  EXPECT_EQ(c.data.resolution, 624);  // sqrt(512 768) = 627, in steps of 8
  EXPECT_EQ(c.batch_size, 2);
  EXPECT_EQ(c.steps, 1200);
  EXPECT_EQ(lora.rank, 32);
  EXPECT_EQ(lora.alpha, 16);
  EXPECT_EQ(lora.conv_rank, 8);
  EXPECT_EQ(lora.conv_alpha, 4);
  EXPECT_DOUBLE_EQ(lora.dropout, 0.1);
  EXPECT_DOUBLE_EQ(lora.rank_dropout, 0.2);
  ASSERT_EQ(lora.layers.size(), 1u);
  EXPECT_EQ(lora.layers[0].pattern, "text_encoder*");
  EXPECT_DOUBLE_EQ(lora.layers[0].lr, 0.5);
  const auto& optimizer = std::get<optim::AdamW8bitConfig>(c.optimizer);
  EXPECT_DOUBLE_EQ(optimizer.lr, 1e-4);
  EXPECT_DOUBLE_EQ(optimizer.weight_decay, 0.1);
  EXPECT_DOUBLE_EQ(optimizer.beta2, 0.99);
  EXPECT_EQ(c.schedule.shape, optim::LrSchedule::cosine_with_restarts);
  EXPECT_EQ(c.schedule.cycles, 3);
  EXPECT_EQ(c.schedule.warmup_steps, 100);
  EXPECT_EQ(c.dtype, ComputeDtype::bfloat16);
  EXPECT_TRUE(c.data.buckets);
  EXPECT_FALSE(c.data.upscale);
  EXPECT_TRUE(c.data.shuffle_tags);
  EXPECT_EQ(c.data.keep_tags, 1);
  EXPECT_DOUBLE_EQ(c.data.flip, 0.5);
  EXPECT_DOUBLE_EQ(c.objective.noise_offset, 0.05);
  EXPECT_EQ(c.objective.weighting, diffusion::LossWeighting::min_snr);
  EXPECT_EQ(c.objective.loss, diffusion::PointwiseLoss::huber);
  EXPECT_EQ(c.objective.max_timestep, 899);
  EXPECT_EQ(c.seed, 42);
  EXPECT_EQ(c.data.sources[0].mask, "masks");
  EXPECT_EQ(lora.start, "old.safetensors");
  EXPECT_DOUBLE_EQ(lora.max_norm, 1.5);
  ASSERT_EQ(c.model.merge.size(), 2u);
  EXPECT_EQ(c.model.merge[1].path, "b.safetensors");
  EXPECT_DOUBLE_EQ(c.model.merge[0].strength, 0.5);
  EXPECT_DOUBLE_EQ(c.model.merge[1].strength, 1);
  EXPECT_EQ(c.text.clip_skip, 2);
  for (const char* left : {"--xformers", "block_dims=2,2", "fp16", "512,768"})
    EXPECT_NE(reason_for(imported, left), "") << left;
  EXPECT_NO_THROW(validate(c));
}

TEST_F(ImportTest, ATomlOfKohyaArrivesWhateverItsSections) {
  const Imported imported = import("kohya.toml",
                                   "[model]\npretrained_model_name_or_path = \"m.safetensors\"\n[data]\ntrain_data_dir = \"p\"\n"
                                   "resolution = 768\n[network]\nnetwork_module = \"lycoris.kohya\"\nnetwork_dim = 4\n"
                                   "network_args = [\"algo=loha\", \"conv_dim=2\"]\nnetwork_train_unet_only = true\n"
                                   "[optimizer]\noptimizer_type = \"Prodigy\"\nlearning_rate = 1.0\n"
                                   "optimizer_args = [\"d_coef=2.0\", \"use_bias_correction=True\", \"slice_p=11\"]\n");
  const auto& lora = std::get<LoraMethod>(imported.config.method);
  EXPECT_EQ(lora.algo, adapters::Algorithm::loha);
  EXPECT_EQ(imported.config.data.resolution, 768);
  EXPECT_EQ(lora.alpha, 1);  // kohya's, where nothing is said
  EXPECT_EQ(imported.config.batch_size, 1);
  EXPECT_EQ(imported.config.steps, 1600);
  for (const std::string& target : lora.targets) EXPECT_TRUE(target.starts_with("unet.")) << target;
  const auto& prodigy = std::get<optim::ProdigyConfig>(imported.config.optimizer);
  EXPECT_DOUBLE_EQ(prodigy.lr, 1);
  EXPECT_DOUBLE_EQ(prodigy.d_coef, 2);
  EXPECT_TRUE(prodigy.bias_correction);
  EXPECT_NE(reason_for(imported, "slice_p"), "");
}

TEST_F(ImportTest, WhatSavesMemoryWithWholeNetworksArrives) {
  const std::string top = "pretrained_model_name_or_path = \"m\"\ntrain_data_dir = \"p\"\nmax_grad_norm = 0.5\n"
                          "full_bf16 = true\nfused_backward_pass = true\n";
  const RunConfig whole = import("whole.toml", top + "mixed_precision = \"bf16\"\n").config;
  EXPECT_TRUE(whole.stochastic_rounding && whole.fused_backward_pass);
  EXPECT_EQ(whole.clip_by, optim::ClipBy::tensor_norm);
  EXPECT_DOUBLE_EQ(whole.clip, 0.5);
  EXPECT_NO_THROW(validate(whole));
  const Imported exact = import("exact.toml", top + "mixed_precision = \"no\"\n");
  EXPECT_FALSE(exact.config.stochastic_rounding);
  EXPECT_NE(reason_for(exact, "full_bf16"), "");
  const Imported adapter = import("adapter.toml", top + "mixed_precision = \"bf16\"\nnetwork_module = \"networks.lora\"\n");
  EXPECT_FALSE(adapter.config.stochastic_rounding || adapter.config.fused_backward_pass);
  EXPECT_NE(reason_for(adapter, "fused_backward_pass"), "");
  const RunConfig one = import("whole.json", R"({"training_method": "FINE_TUNE", "base_model_name": "m", "train_dtype": "BFLOAT_16",
    "concepts": [{"path": "p"}], "optimizer": {"optimizer": "ADAMW", "stochastic_rounding": true, "fused_back_pass": true}})")
                            .config;
  EXPECT_TRUE(one.stochastic_rounding && one.fused_backward_pass);
}

TEST_F(ImportTest, TheGuisJsonArrives) {
  const Imported imported =
      import("gui.json", R"({"pretrained_model_name_or_path": "m", "train_data_dir": "p", "LoRA_type": "Standard",
    "network_dim": 8, "network_alpha": 1, "max_resolution": "512,512",
    "optimizer": "Lion", "learning_rate": 0.0001, "lr_warmup": 10,
    "optimizer_args": "weight_decay=0.2", "noise_offset_type": "Original", "epoch": 10, "cache_latents": true})");
  EXPECT_DOUBLE_EQ(imported.config.schedule.warmup_fraction, 0.1);
  EXPECT_DOUBLE_EQ(std::get<optim::LionConfig>(imported.config.optimizer).weight_decay, 0.2);
  EXPECT_EQ(std::get<LoraMethod>(imported.config.method).rank, 8);
  EXPECT_EQ(reason_for(imported, "noise_offset_type"), "not known to this program");
  EXPECT_NE(reason_for(imported, "epoch").find("steps"), std::string::npos);
}

TEST_F(ImportTest, AConfigurationOfOneTrainerArrives) {
  const Imported imported =
      import("one.json", R"({"training_method": "LORA", "base_model_name": "m", "learning_rate": 0.0003,
    "batch_size": 4,
    "resolution": "512", "lora_rank": 16, "lora_alpha": 1.0,
    "optimizer": {"optimizer": "ADAMW_8BIT", "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.05},
    "learning_rate_scheduler": "COSINE", "learning_rate_warmup_steps": 200.0,
    "train_dtype": "BFLOAT_16", "ema": "CPU", "epochs": 100,
    "loss_weight_fn": "MIN_SNR_GAMMA", "loss_weight_strength": 7.0, "concepts": [{"path": "pictures"}],
    "aspect_ratio_bucketing": true, "masked_training": true, "unmasked_weight": 0.1, "unmasked_probability": 0.2,
    "normalize_masked_area_loss": true,
    "output_model_destination": "out/my-lora.safetensors"})");
  const RunConfig& c = imported.config;
  EXPECT_EQ(imported.source, "OneTrainer");
  EXPECT_EQ(std::get<LoraMethod>(c.method).rank, 16);
  EXPECT_DOUBLE_EQ(std::get<optim::AdamW8bitConfig>(c.optimizer).beta2, 0.95);
  EXPECT_DOUBLE_EQ(optim::learning_rate(c.optimizer), 3e-4);
  EXPECT_EQ(c.schedule.warmup_steps, 200);
  EXPECT_TRUE(c.ema.enabled);
  EXPECT_DOUBLE_EQ(c.objective.min_snr_gamma, 7);
  EXPECT_EQ(c.data.sources.at(0).path, "pictures");
  EXPECT_EQ(c.data.sources[0].mask, "beside");
  EXPECT_DOUBLE_EQ(c.objective.unmasked_weight, 0.1);
  EXPECT_TRUE(c.objective.normalize_masked_area);
  EXPECT_DOUBLE_EQ(c.data.unmasked_probability, 0.2);
  EXPECT_EQ(c.name, "my-lora");
  EXPECT_NE(reason_for(imported, "epochs"), "");
}

TEST_F(ImportTest, AJobOfAiToolkitArrives) {
  const Imported imported = import("job.yaml", R"(
job: extension
config:
  name: "my_style"  # the name
  process:
    - type: 'sd_trainer'
      training_folder: "out"
      device: cuda:0
      trigger_word: "p3r5on"
      network: {type: lora, linear: 16, linear_alpha: 8, conv: 4, conv_alpha: 2}
      save:
        dtype: float16
        save_every: 250
        max_step_saves_to_keep: 4
      datasets:
        - folder_path: "one"
          caption_ext: "txt"
          caption_dropout_rate: 0.05
          shuffle_tokens: false
          cache_latents_to_disk: true
          mask_path: masks
          resolution: [512, 768, 1024]
        - folder_path: two
          num_repeats: 3
          flip_x: true
      train:
        batch_size: 2
        steps: 2000
        gradient_accumulation_steps: 3
        train_unet: true
        train_text_encoder: false
        gradient_checkpointing: true
        noise_scheduler: "ddpm"
        optimizer: "adamw8bit"
        lr: 1e-4
        ema_config:
          use_ema: true
          ema_decay: 0.99
        dtype: bf16
        snr_gamma: 5
        content_or_style: balanced
      model:
        name_or_path: "models/xl"
        is_xl: true
      sample:
        sample_every: 100
        prompts:
          - "a [trigger] in the park"
          - "two, with: a colon"
        neg: ""
        seed: 42
        guidance_scale: 4
        sample_steps: 20
meta:
  name: "[name]"
)");
  const RunConfig& c = imported.config;
  EXPECT_EQ(imported.source, "ai-toolkit");
  EXPECT_EQ(c.output + "/" + c.name, "out/my_style");
  const auto& lora = std::get<LoraMethod>(c.method);
  EXPECT_EQ(lora.rank, 16);
  EXPECT_EQ(lora.alpha, 8);
  EXPECT_EQ(lora.conv_rank, 4);
  for (const std::string& target : lora.targets) EXPECT_TRUE(target.starts_with("unet.")) << target;
  ASSERT_EQ(c.data.sources.size(), 2u);
  EXPECT_EQ(c.data.sources[0].path, "one");
  EXPECT_EQ(c.data.sources[0].mask, "masks");
  EXPECT_EQ(c.data.sources[1].repeats, 3);
  EXPECT_EQ(c.data.sources[1].trigger, "p3r5on");
  EXPECT_DOUBLE_EQ(c.data.caption_dropout, 0.05);
  EXPECT_DOUBLE_EQ(c.data.flip, 0.5);
  EXPECT_EQ(c.data.resolution, 1024);
  EXPECT_EQ(c.batch_size, 2);
  EXPECT_EQ(c.accumulate, 3);
  EXPECT_EQ(c.steps, 2000);
  EXPECT_DOUBLE_EQ(std::get<optim::AdamW8bitConfig>(c.optimizer).lr, 1e-4);
  EXPECT_TRUE(c.ema.enabled);
  EXPECT_DOUBLE_EQ(c.ema.decay, 0.99);
  EXPECT_EQ(c.dtype, ComputeDtype::bfloat16);
  EXPECT_EQ(c.objective.weighting, diffusion::LossWeighting::min_snr);
  EXPECT_EQ(c.model.path, "models/xl");
  EXPECT_EQ(c.checkpoint.every, 250);
  EXPECT_EQ(c.checkpoint.keep, 4);
  EXPECT_EQ(c.preview.every, 100);
  EXPECT_EQ(c.preview.prompts, (std::vector<std::string>{"a [trigger] in the park", "two, with: a colon"}));
  EXPECT_EQ(c.preview.seed, 42);
  for (const char* left : {"save.dtype", "resolution", "content_or_style", "noise_scheduler", "is_xl"})
    EXPECT_NE(reason_for(imported, left), "") << left;
  EXPECT_EQ(reason_for(imported, "lr ="), "");
  expect_contains(refusal("flux.yaml", "config:\n  process:\n    - type: sd_trainer\n      model:\n        is_flux: true\n"),
                  {"is_flux", "not built"});
}

TEST_F(ImportTest, SlipsAndWrongValuesAreNamed) {
  const std::string begin = "pretrained_model_name_or_path = \"m\"\ntrain_data_dir = \"p\"\n";
  expect_contains(refusal("a.toml", begin + "network_dimm = 8\n"), {"network_dimm", "did you mean 'network_dim'"});
  expect_contains(refusal("a.toml", begin + "max_train_steps = \"many\"\n"), {"max_train_steps", "many"});
  expect_contains(refusal("a.toml", "steps = 5\n"), {"a.toml", "kohya", "OneTrainer", "ai-toolkit"});
  expect_contains(refusal("a.yaml", "a: 1\nb: [1, 2\n"), {"a.yaml:3:1"});
  const Imported unknown = import("b.toml", begin + "optimizer_type = \"Ranger\"\n");
  EXPECT_NE(reason_for(unknown, "Ranger").find("adamw"), std::string::npos);
}

}  // namespace
}  // namespace emulsion::train
