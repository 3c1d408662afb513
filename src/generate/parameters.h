// How a picture was drawn: a request as infotext, and back.
#pragma once

#include <string>
#include <vector>

#include "generate/generate.h"
#include "generate/infotext.h"
#include "models/prompt_parts.h"

namespace emulsion::generate {

/// What picture `index` of a resolved request says of itself. `networks` are those that were used beside the prompt's own;
/// they stand behind the prompt as tags.
Infotext infotext_of(const Request& request, size_t index, const std::string& model_name,
                     const std::vector<models::NetworkTag>& networks = {});

/// "<lora:style:0.8>".
std::string to_text(const models::NetworkTag& tag);

}  // namespace emulsion::generate
