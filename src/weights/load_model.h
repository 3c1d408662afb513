// Models from wherever they lie: a folder in the diffusers layout, or a single file. What every verb calls.
#pragma once

#include <filesystem>
#include <memory>

#include "models/model.h"
#include "weights/load_options.h"

namespace emulsion::weights {

/// load_model_folder or load_single_file of what is `located` (weights/catalogue.h) there, and a check that the parts fit together.
/// Throws: as those and `located`; Error{format} for parts of different models, naming both.
models::Model load_model(const std::filesystem::path& path, const LoadOptions& options = {});

/// Replaces the autoencoder of `model` by that of a model folder, a `vae` folder, a whole model's file or a file of its own
/// in any naming. One that comes without a config takes scaling factors from the one that it replaces.
/// Throws: as load_model; Error{format} for one that the model cannot work with, such as SDXL's in Stable Diffusion 1.
void replace_vae(models::Model& model, const std::filesystem::path& path, at::ScalarType dtype = at::kFloat);

}  // namespace emulsion::weights
