// Adapter files: LoRA in kohya's names and those of PEFT / diffusers, its relatives in those of LyCORIS, read and written.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "adapters/adapter_set.h"
#include "weights/layer_names.h"

namespace emulsion::weights {

/// How the names of embeddings begin that an adapter's file holds besides: "bundle_emb.WORD.clip_l".
constexpr const char* kBundle = "bundle_emb.";

/// Reads a file of any naming and any kind of adapters/config.h and binds it to the model's leaves.
/// Embeddings in it are left out (generate/embeddings.h reads them).
/// Throws: Error{not_found} naming the keys that fit no leaf; Error{shape} naming the layer; Error{unsupported} for
/// kinds that are not built (BOFT, VeRA, ...), by their keys.
adapters::AdapterSet load_adapter(const std::filesystem::path& file, const models::Model& model);

/// Writes atomically. `words`: embeddings that go along, as kBundle says. Throws: Error{unsupported} for kinds that diffusers has
/// no names for, with its naming.
void save_adapter(const std::filesystem::path& file, const adapters::AdapterSet& set, const LayerNames& names, AdapterNaming naming,
                  const std::map<std::string, std::string>& metadata = {}, at::ScalarType dtype = at::kFloat,
                  const NamedTensors& words = {});

}  // namespace emulsion::weights
