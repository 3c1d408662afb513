// What the layers of one model are called in adapter files.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "models/model.h"

namespace emulsion::weights {

enum class AdapterNaming {
  kohya,      // lora_unet_mid_block_attentions_0_proj_in.lora_down.weight, with .alpha
  diffusers,  // unet.mid_block.attentions.0.proj_in.lora_A.weight; alpha folded into lora_B
};

/// Layers are addressed by component and leaf: "unet.mid_block.attentions.0.proj_in".
///
/// kohya's scripts train Stable Diffusion 1 and 2 in diffusers' names and SDXL in those of the LDM layout, with text encoders
/// lora_te1 and lora_te2; other trainers write diffusers' names for all. All are read; kohya's are written.
class LayerNames {
 public:
  explicit LayerNames(const models::Model& model);

  /// kohya: "lora_unet_mid_block_attentions_0_proj_in". diffusers: "unet.mid_block.attentions.0.proj_in".
  /// Throws: Error{unsupported} for a layer of a part that adapter files do not know.
  std::string written(const std::string& path, AdapterNaming naming) const;

  /// Every name under which the layer may stand in a file.
  std::vector<std::string> known(const std::string& path) const;

 private:
  bool two_encoders_;
  std::unordered_map<std::string, std::string> ldm_;  // of the U-Net's leaves
};

}  // namespace emulsion::weights
