// The U-Net's blocks by the names that tools for block weights use (kohya's scripts count them so, too).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace emulsion::adapters {

/// Glob patterns over layer paths for a block of a U-Net with two layers a level: IN00 to IN11, M00 (the whole middle), OUT00 to
/// OUT11 in Stable Diffusion 1 and 2, IN00 to IN08 and OUT00 to OUT08 in SDXL. They are the input_blocks and output_blocks of the
/// LDM layout. Empty for any other text.
std::vector<std::string> block_patterns(std::string_view name);

}  // namespace emulsion::adapters
