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

TEST(SchedulerConfigTest, AClassWithoutASolverStillGivesItsNoiseSchedule) {
  const SchedulerConfig config = parse(kStableDiffusion1);
  EXPECT_EQ(config.noise.beta_end, 0.012);
  EXPECT_EQ(config.spacing, SigmaSchedule::leading);
  EXPECT_FALSE(config.options.set_alpha_to_one);
  const auto message = test::error_message([&] { sampler_for(config); });
  EXPECT_NE(message.find("PNDMScheduler is not built"), std::string::npos) << message;
  EXPECT_NE(message.find("--sampler ddim|euler|euler_ancestral|dpmpp_2m"), std::string::npos);
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
  EXPECT_TRUE(config.options.use_karras_sigmas);
}

TEST(SchedulerConfigTest, NamesTheOptionsThatAreNotBuilt) {
  const auto message = [](const std::string& option) {
    const SchedulerConfig config =
        parse("{\"_class_name\": \"DPMSolverMultistepScheduler\", " + option + "}");
    return test::error_message([&] { sampler_for(config); });
  };
  for (const char* option :
       {"\"thresholding\": true", "\"final_sigmas_type\": \"sigma_min\"", "\"solver_order\": 3",
        "\"use_lu_lambdas\": true", "\"algorithm_type\": \"sde-dpmsolver++\""}) {
    const std::string key = std::string(option).substr(1, std::string(option).find(':') - 2);
    EXPECT_NE(message(option).find(key + " = "), std::string::npos) << option;
  }
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
  for (const char* name :
       {"DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler"}) {
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
    EXPECT_TRUE(again.not_built.empty()) << name;
    EXPECT_EQ(to_json(again), to_json(parse(to_json(again)))) << name;
  }
}

}  // namespace
}  // namespace emulsion::diffusion
