// Model folders in the diffusers layout: model_index.json, and a folder per part with config.json and weights.
#pragma once

#include <filesystem>
#include <set>
#include <string>

#include "models/model.h"

namespace emulsion::weights {

struct LoadOptions {
  at::ScalarType dtype = at::kFloat;
  /// Which parts to load; empty: all that are there ("vae", "unet", "text_encoder", "text_encoder_2"; tokenizers and scheduler are always read).
  std::set<std::string> parts;
};

/// Reads a model folder. Weights are memory-mapped where dtype and layout allow.
/// Throws: Error{not_found} if there is no such folder or it holds no part of a model, saying what is there;
/// Error{format, shape, unsupported} naming file and tensor key.
models::Model load_model_folder(const std::filesystem::path& folder, const LoadOptions& options = {});

/// Writes every part that the model has, so that diffusers' StableDiffusionPipeline.from_pretrained loads it.
/// Each file is written atomically, model_index.json last.
void save_model_folder(const std::filesystem::path& folder, const models::Model& model, at::ScalarType dtype = at::kFloat);

/// Fills a store from a weights file. Throws Error{format} listing missing and unexpected keys.
void load_component(nn::ParamStore& store, const std::filesystem::path& file, at::ScalarType dtype);

}  // namespace emulsion::weights
