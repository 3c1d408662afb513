// Arguments of the verbs that read a model: what its file does not say, or says wrongly.
#pragma once

#include <string>

#include "weights/load_options.h"

namespace CLI {
class App;
}

namespace emulsion::app {

struct ModelArguments {
  std::string variant, family, prediction, config;
  bool ema = false, kohya_projection = false;
};

/// Adds --variant, --ema, --family, --prediction, --config and --kohya-text-projection.
void add_model_arguments(CLI::App& verb, ModelArguments& arguments);

/// Throws: Error{config} for a prediction that there is not.
weights::LoadOptions load_options(const ModelArguments& arguments, at::ScalarType dtype);

/// "float32", "float16", "bfloat16" -> dtype; "stored" -> Undefined. Throws: Error{config}.
at::ScalarType dtype_named(const std::string& name);

}  // namespace emulsion::app
