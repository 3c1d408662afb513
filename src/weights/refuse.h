// Files and folders that are something else than a model that is built: recognised, and refused by what they are.
#pragma once

#include <filesystem>

#include "io/tensor_file.h"

namespace emulsion::weights {

/// Throws: Error{unsupported} naming the family (SDXL refiner, SD 3, Flux, ...) or the kind of file (LoRA, ControlNet,
/// textual inversion, ...), the tensor that shows it, and what to do. `wrapper` stands before all names.
void refuse_other_files(const io::TensorFile& file, const std::string& wrapper);

/// The same for a model folder, by its model_index.json and its parts. Does nothing for a folder without them.
void refuse_other_folders(const std::filesystem::path& folder);

/// The families that differ from built ones in the U-Net's input channels: 5 depth, 7 upscaler, 8 InstructPix2Pix.
void refuse_input_channels(int64_t channels, const std::string& where, const std::string& tensor);

}  // namespace emulsion::weights
