// CLIP's byte-pair merges, embedded. Licence and source: clip_merges.LICENSE.
#pragma once

#include <string_view>

namespace emulsion::models {

/// 48,894 lines "left right", most important first.
std::string_view clip_merges();

}  // namespace emulsion::models
