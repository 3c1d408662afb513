// Short labels as pictures, for contact sheets.
#pragma once

#include <cstdint>
#include <string>

#include "core/tensor.h"

namespace emulsion::io {

/// Dark text on white in a sans-serif font: uint8 [h, w, 3], about `size` pixels high. An empty text gives [size, 1, 3].
/// Throws: Error{io} if the system has no font.
Tensor text_image(const std::string& text, int64_t size);

}  // namespace emulsion::io
