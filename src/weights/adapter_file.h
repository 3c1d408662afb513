// LoRA files: kohya's names and those of PEFT / diffusers, read and written.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "adapters/adapter_set.h"

namespace emulsion::weights {

enum class AdapterNaming {
  kohya,      // lora_unet_mid_block_attentions_0_proj_in.lora_down.weight, with .alpha
  diffusers,  // unet.mid_block.attentions.0.proj_in.lora_A.weight; alpha folded into lora_B
};

/// Reads a LoRA file of either naming and binds it to the model's leaves.
/// Throws: Error{not_found} naming the keys that fit no leaf; Error{shape} naming the layer; Error{unsupported} for
/// kinds that are not built (LoHa, LoKr, DoRA, ...), by their keys.
adapters::AdapterSet load_adapter(const std::filesystem::path& file, const std::vector<nn::Component>& components);

/// Writes atomically.
void save_adapter(const std::filesystem::path& file, const adapters::AdapterSet& set, AdapterNaming naming,
                  const std::map<std::string, std::string>& metadata = {}, at::ScalarType dtype = at::kFloat);

/// kohya's name of a leaf: "unet.mid_block.attentions.0.proj_in" -> "lora_unet_mid_block_attentions_0_proj_in".
std::string kohya_name(const std::string& path);

}  // namespace emulsion::weights
