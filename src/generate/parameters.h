// How a picture was drawn: a request as infotext, and back.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "generate/generate.h"
#include "generate/infotext.h"
#include "models/prompt_parts.h"

namespace emulsion::generate {

/// The files behind a picture and their hashes, by which other programs and sites find them. What is empty is not written.
struct UsedFiles {
  std::string model = {}, model_hash = {};                      // without ending; A1111's ten digits
  std::vector<std::pair<std::string, std::string>> loras = {};  // name, hash
  std::vector<std::pair<std::string, std::string>> embeddings = {};
};

/// What picture `index` of a resolved request says of itself. `networks` are those that were used beside the prompt's own;
/// they stand behind the prompt as tags.
Infotext infotext_of(const Request& request, size_t index, const UsedFiles& files,
                     const std::vector<models::NetworkTag>& networks = {});

/// "<lora:style:0.8>".
std::string to_text(const models::NetworkTag& tag);

/// What an infotext says of a drawing.
struct Described {
  Request request;                            // one prompt; with tags, unless its syntax is plain
  std::vector<models::NetworkTag> networks;   // those behind a plain prompt
  double strength = 0;                        // above 0: it was drawn from a picture, or has a mask
  bool masked = false;
  std::vector<std::string> left_out;          // settings that change a picture and have no equal here: "Hires upscale: 2"
};

/// Reads infotext of this program or a web UI, whose seeds mean CUDA's noise unless it says otherwise.
/// Throws: Error{format} naming the setting whose value cannot be read; Error{config} for a sampler that is unknown.
Described describe(const Infotext& text);

}  // namespace emulsion::generate
