#include "model_arguments.h"

#include <CLI/CLI.hpp>

#include "config/enum_names.h"
#include "core/error.h"

namespace emulsion::app {

void add_model_arguments(CLI::App& verb, ModelArguments& a) {
  const std::string group = "Model";
  const auto option = [&](const char* name, auto& value, const char* text, const char* about) {
    verb.add_option(name, value, about)->option_text(text)->group(group);
  };
  option("--variant", a.variant, "NAME", "Of the files in a model folder, as fp16 [the plain ones]");
  option("--family", a.family, "ID", "sd1, sd1_inpaint, sd2, sd2_v, sd2_inpaint, sdxl [from the file's shapes]");
  option("--prediction", a.prediction, "TYPE", "epsilon, v_prediction or sample [as the model says]");
  option("--config", a.config, "FOLDER", "Model folder whose config.json files describe a single file");
  verb.add_flag("--ema", a.ema, "Of a single file, the averaged weights")->group(group);
  verb.add_flag("--kohya-text-projection", a.kohya_projection,
                "SDXL: the second text encoder's projection untransposed, as kohya's scripts have it")
      ->group(group);
}

weights::LoadOptions load_options(const ModelArguments& a, at::ScalarType dtype) {
  weights::LoadOptions options = {.dtype = dtype};
  options.variant = a.variant;
  options.family = a.family;
  options.config = a.config;
  options.ema = a.ema;
  options.kohya_text_projection = a.kohya_projection;
  if (!a.prediction.empty()) options.prediction = config::value_of<diffusion::Prediction>(a.prediction);
  return options;
}

at::ScalarType dtype_named(const std::string& name) {
  if (name == "float32" || name == "fp32") return at::kFloat;
  if (name == "float16" || name == "fp16") return at::kHalf;
  if (name == "bfloat16" || name == "bf16") return at::kBFloat16;
  EMULSION_CHECK(name == "stored", config, "--dtype: expected float32, float16, bfloat16 or stored, got '{}'", name);
  return at::ScalarType::Undefined;
}

}  // namespace emulsion::app
