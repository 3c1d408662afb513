// Adapter files of kinds that are not built, and files that are no adapters: told by their tensors' names.
#pragma once

#include "io/tensor_file.h"

namespace emulsion::weights {

/// Does nothing for a file that may be a LoRA.
/// Throws: Error{unsupported} naming the kind (BOFT, VeRA, ...), the tensor that shows it, and what to do.
void refuse_other_adapters(const io::TensorFile& file);

}  // namespace emulsion::weights
