// What stands in a prompt beside the text to encode: networks to use, and the "AND" between texts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace emulsion::models {

/// "<lora:name:0.8>": a file to use, and how strongly on each part of the model.
struct NetworkTag {
  std::string kind;  // "lora", "hypernet"
  std::string name;
  double text_strength = 1;
  double unet_strength = 1;

  bool operator==(const NetworkTag&) const = default;
};

/// One text of a composed prompt and the weight of its guidance.
struct PromptPart {
  std::string text;
  double weight = 1;

  bool operator==(const PromptPart&) const = default;
};

struct PromptParts {
  std::vector<PromptPart> parts;  // at least one
  std::vector<NetworkTag> networks;
};

/// Reads, as Stable Diffusion web UIs do:
///   <lora:NAME>  <lora:NAME:0.8>  <lora:NAME:0.5:0.8>  <lora:NAME:te=0.5:unet=0.8>   (first the text encoder's strength,
///   then the U-Net's, which is the same where it is left out; "lyco" is another word for "lora"; also "hypernet")
///   red cat :1.2 AND blue dog   two texts, each guided by itself (Liu et al. 2022, arXiv:2206.01714)
/// The tags are taken out of the text. Other words in "<...>" are text.
/// Throws: Error{config} for a tag without a name or with a strength that is no number.
PromptParts split_prompt(std::string_view prompt);

}  // namespace emulsion::models
