// What a safetensors file is, told from its keys.
#pragma once

#include <string>

#include "io/safetensors.h"

namespace emulsion::app {

/// "LoRA, kohya's names", "U-Net, names of diffusers", ...; "tensors" if nothing is known about it.
std::string kind_of(const io::SafetensorsFile& file);

/// "12 tensors, 1,234 numbers, Float (1.2 MiB)".
std::string summary(const io::SafetensorsFile& file);

}  // namespace emulsion::app
