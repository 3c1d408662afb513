#include "diffusion/scheduler_config.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "support/support.h"

namespace emulsion::diffusion {
namespace {

constexpr const char* kStableDiffusion1 = R"({
  "_class_name": "PNDMScheduler", "_diffusers_version": "0.7.0.dev0",
  "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
  "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true,
  "steps_offset": 1, "trained_betas": null, "clip_sample": false
})";

constexpr const char* kStableDiffusionXl = R"({
  "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0",
  "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": false,
  "interpolation_type": "linear", "num_train_timesteps": 1000, "prediction_type": "epsilon",
  "sample_max_value": 1.0, "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1,
  "timestep_spacing": "leading", "trained_betas": null, "use_karras_sigmas": false
})";

SchedulerConfig parse(const std::string& text) { return parse_scheduler_config(text, "s.json"); }

TEST(SchedulerConfigTest, ReadsStableDiffusionXl) {
  const SchedulerConfig config = parse(kStableDiffusionXl);
  EXPECT_EQ(config.noise.beta_schedule, BetaSchedule::scaled_linear);
  EXPECT_EQ(config.noise.beta_start, 0.00085);
  EXPECT_EQ(config.prediction, Prediction::epsilon);
  EXPECT_EQ(config.spacing, SigmaSchedule::leading);
  EXPECT_EQ(config.options.steps_offset, 1);
  EXPECT_EQ(sampler_for(config).id, "euler");
}

TEST(SchedulerConfigTest, ReadsStableDiffusion1) {
  const SchedulerConfig config = parse(kStableDiffusion1);
  EXPECT_EQ(config.noise.beta_end, 0.012);
  EXPECT_EQ(config.spacing, SigmaSchedule::leading);
  EXPECT_FALSE(config.options.set_alpha_to_one);
  EXPECT_EQ(sampler_for(config).id, "plms");
}

TEST(SchedulerConfigTest, EveryClassThatASamplerNamesIsReadAndSampledWith) {
  for (const Sampler& sampler : samplers()) {
    if (sampler.diffusers_class.empty()) continue;
    SchedulerConfig config;
    config.class_name = sampler.diffusers_class;
    if (sampler.id == "dpmpp_2m_sde") config.algorithm = "sde-dpmsolver++";
    EXPECT_EQ(sampler_for(parse(to_json(config))).id, sampler.id);
  }
}

TEST(SchedulerConfigTest, AClassWithoutASolverStillGivesItsNoiseSchedule) {
  for (const char* name :
       {"DPMSolverSinglestepScheduler", "TCDScheduler", "EDMEulerScheduler", "IPNDMScheduler",
        "FlowMatchEulerDiscreteScheduler", "DDIMInverseScheduler",
        "CosineDPMSolverMultistepScheduler", "SASolverScheduler", "DDPMWuerstchenScheduler", ""}) {
    const SchedulerConfig config =
        parse(fmt::format(R"({{"_class_name": "{}", "beta_end": 0.012}})", name));
    EXPECT_EQ(config.noise.beta_end, 0.012);
    const auto message = test::error_message([&] { sampler_for(config); });
    EXPECT_NE(message.find(std::string(name) + " is not built"), std::string::npos) << message;
    EXPECT_NE(message.find("--sampler euler|euler_ancestral|heun"), std::string::npos) << message;
  }
}

TEST(SchedulerConfigTest, WhatIsLeftOutHasTheDefaultOfTheClass) {
  const SchedulerConfig ddim = parse(R"({"_class_name": "DDIMScheduler"})");
  EXPECT_EQ(ddim.noise.beta_schedule, BetaSchedule::linear);
  EXPECT_EQ(ddim.noise.beta_start, 0.0001);
  EXPECT_EQ(ddim.noise.beta_end, 0.02);
  EXPECT_EQ(ddim.spacing, SigmaSchedule::leading);
  EXPECT_TRUE(ddim.options.set_alpha_to_one);
  EXPECT_EQ(ddim.not_built, std::vector<std::string>{"clip_sample = true"});
  const SchedulerConfig euler = parse(R"({"_class_name": "EulerDiscreteScheduler"})");
  EXPECT_EQ(euler.spacing, SigmaSchedule::linspace);
  EXPECT_TRUE(euler.not_built.empty());
}

TEST(SchedulerConfigTest, ReadsPythonsInfinity) {
  const SchedulerConfig config = parse(R"({"_class_name": "DPMSolverMultistepScheduler",
    "lambda_min_clipped": -Infinity, "note": "-Infinity \" Infinity",
    "solver_order": 2, "final_sigmas_type": "zero", "variance_type": null,
    "algorithm_type": "dpmsolver++", "use_karras_sigmas": true})");
  EXPECT_EQ(sampler_for(config).id, "dpmpp_2m");
  EXPECT_EQ(config.options.respacing, Respacing::karras);
}

TEST(SchedulerConfigTest, NamesTheOptionsThatAreNotBuilt) {
  const std::pair<const char*, const char*> cases[] = {
      {"DPMSolverMultistepScheduler", R"("thresholding": true)"},
      {"DPMSolverMultistepScheduler", R"("final_sigmas_type": "sigma_min")"},
      {"DPMSolverMultistepScheduler", R"("solver_order": 3)"},
      {"DPMSolverMultistepScheduler", R"("solver_type": "heun")"},
      {"DPMSolverMultistepScheduler", R"("use_lu_lambdas": true)"},
      {"DPMSolverMultistepScheduler", R"("algorithm_type": "sde-dpmsolver")"},
      {"DDIMScheduler", R"("clip_sample": true)"},
      {"DDPMScheduler", R"("variance_type": "fixed_large", "clip_sample": false)"},
      {"EulerDiscreteScheduler", R"("interpolation_type": "log_linear")"},
      {"EulerDiscreteScheduler", R"("timestep_type": "continuous")"},
      {"PNDMScheduler", R"("skip_prk_steps": false)"},
      {"LCMScheduler", R"("original_inference_steps": 100)"},
      {"LCMScheduler", R"("timestep_scaling": 1)"},
      {"UniPCMultistepScheduler", R"("solver_type": "bh1")"},
      {"UniPCMultistepScheduler", R"("predict_x0": false)"},
      {"UniPCMultistepScheduler", R"("disable_corrector": [0])"},
      {"DEISMultistepScheduler", R"("lower_order_final": false)"},
  };
  for (const auto& [name, option] : cases) {
    const SchedulerConfig config =
        parse(fmt::format(R"({{"_class_name": "{}", {}}})", name, option));
    const auto message = test::error_message([&] { sampler_for(config); });
    const std::string key = std::string(option).substr(1, std::string(option).find(':') - 2);
    EXPECT_NE(message.find(key + " = "), std::string::npos) << name << " " << option << message;
    EXPECT_NE(message.find(name), std::string::npos);
  }
  // The class' own default is not built either.
  const SchedulerConfig pndm = parse(R"({"_class_name": "PNDMScheduler"})");
  EXPECT_EQ(pndm.not_built, std::vector<std::string>{"skip_prk_steps = false"});
  // A key that means something to another class only.
  EXPECT_EQ(sampler_for(parse(R"({"_class_name": "DEISMultistepScheduler",
    "algorithm_type": "deis", "solver_type": "logrho"})"))
                .id,
            "deis");
}

TEST(SchedulerConfigTest, ReadsHowSigmasAreSpacedAgain) {
  const auto read = [](const std::string& name, const std::string& options) {
    return parse("{\"_class_name\": \"" + name + "\", " + options + "}").options.respacing;
  };
  EXPECT_EQ(read("HeunDiscreteScheduler", R"("use_karras_sigmas": true)"), Respacing::karras);
  EXPECT_EQ(read("LMSDiscreteScheduler", R"("use_exponential_sigmas": true)"),
            Respacing::exponential);
  EXPECT_EQ(read("UniPCMultistepScheduler", R"("use_beta_sigmas": true)"), Respacing::beta);
  EXPECT_EQ(read("UniPCMultistepScheduler", R"("use_beta_sigmas": false)"), Respacing::none);
  EXPECT_EQ(read("DDIMScheduler", R"("use_karras_sigmas": true)"),
            Respacing::none);  // ignored there
  EXPECT_NE(test::error_message([&] {
              read("EulerDiscreteScheduler",
                   R"("use_karras_sigmas": true, "use_beta_sigmas": true)");
            }).find("expected at most one of use_karras_sigmas"),
            std::string::npos);
}

TEST(SchedulerConfigTest, RefusesANoiseScheduleThatIsNotBuilt) {
  const auto message = [](const std::string& option) {
    return test::error_message(
        [&] { parse("{\"_class_name\": \"DDPMScheduler\", " + option + "}"); });
  };
  EXPECT_NE(message("\"beta_schedule\": \"sigmoid\"").find("got 'sigmoid'"), std::string::npos);
  EXPECT_NE(message("\"prediction_type\": \"flow_prediction\"").find("got 'flow_prediction'"),
            std::string::npos);
  EXPECT_NE(message("\"trained_betas\": [0.1]").find("trained_betas"), std::string::npos);
}

TEST(SchedulerConfigTest, RefusesWhatIsNoSchedulerFile) {
  for (const char* text :
       {"", "[]", "{", "{}", "{\"_class_name\": \"DDIMScheduler\", \"beta_end\": \"x\"}"}) {
    try {
      parse(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::format) << text;
    }
  }
}

TEST(SchedulerConfigTest, WhatIsWrittenReadsBack) {
  for (const Sampler& sampler : samplers()) {
    const std::string name(sampler.diffusers_class);
    if (name.empty()) continue;
    SchedulerConfig config;
    config.class_name = name;
    config.noise.beta_end = 0.011;
    config.prediction = Prediction::v_prediction;
    config.spacing = SigmaSchedule::trailing;
    const SchedulerConfig again = parse(to_json(config));
    EXPECT_EQ(again.class_name, name);
    EXPECT_EQ(again.noise.beta_end, 0.011);
    EXPECT_EQ(again.noise.beta_schedule, BetaSchedule::scaled_linear);
    EXPECT_EQ(again.prediction, Prediction::v_prediction);
    EXPECT_EQ(again.spacing, SigmaSchedule::trailing);
    EXPECT_EQ(again.options.steps_offset, 1);
    EXPECT_EQ(again.not_built, std::vector<std::string>{}) << name;
    EXPECT_EQ(to_json(again), to_json(parse(to_json(again)))) << name;
  }
}

}  // namespace
}  // namespace emulsion::diffusion
