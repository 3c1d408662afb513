// What a file of weights is, told from its keys.
#pragma once

#include <string>

#include "io/tensor_file.h"

namespace emulsion::app {

/// "LoRA, kohya's names", "U-Net, names of diffusers", ...; "tensors" if nothing is known about it.
std::string kind_of(const io::TensorFile& file);

/// "12 tensors, 1,234 numbers, Float (1.2 MiB)".
std::string summary(const io::TensorFile& file);

}  // namespace emulsion::app
