// Model folders in the diffusers layout: model_index.json, and a folder per part with config.json and weights.
#pragma once

#include <filesystem>
#include <string>

#include "models/model.h"
#include "weights/load_options.h"

namespace emulsion::weights {

/// Reads a model folder, or the folder of one part (the one with config.json). Weights may be safetensors or what torch.save
/// writes, whole or in shards with an index, plain or of a variant ("fp16"); they are memory-mapped where dtype and layout
/// allow. Parts that model_index.json names and that are not there are reported, and warned of.
/// Throws: Error{not_found} if there is no such folder or it holds no part of a model, saying what is there; if the weights
/// of a part are missing; Error{format, shape, unsupported} naming file and tensor key.
models::Model load_model_folder(const std::filesystem::path& folder, const LoadOptions& options = {});

/// Writes every part that the model has, so that diffusers' from_pretrained loads it. `dtype` Undefined: as in memory. Each
/// file is written atomically, model_index.json last.
void save_model_folder(const std::filesystem::path& folder, const models::Model& model, at::ScalarType dtype = at::kFloat);

}  // namespace emulsion::weights
