// Whether a file of weights is what it should be: finite, and known by its hashes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "io/tensor_file.h"

namespace emulsion::weights {

/// The hashes by which the field knows files. One pass over the file.
struct FileHashes {
  std::string sha256;       // of the whole file: Hugging Face, Civitai ("SHA256"), kohya's ss_new_sd_model_hash
  std::string data_sha256;  // behind a safetensors header; empty for other formats: modelspec.hash_sha256, Civitai's
                            // "AutoV3" (its first 12), A1111's hash of a LoRA
  std::string old_hash;     // A1111's first one, 8 digits: SHA-256 of 64 KiB at 1 MiB; kohya's ss_sd_model_hash

  /// What A1111 writes into a picture's "Model hash" (Civitai: "AutoV2").
  std::string short_hash() const { return sha256.substr(0, 10); }
  /// What A1111 writes into "Lora hashes".
  std::string network_hash() const { return (data_sha256.empty() ? sha256 : data_sha256).substr(0, 12); }
};
/// Throws: Error{io}.
FileHashes hashes_of(const std::filesystem::path& path);

/// The same, remembered in the user's cache folder ($XDG_CACHE_HOME or ~/.cache) by path, size and time of the last change. Where
/// nothing can be written there, it is read anew each time. Throws: Error{io}.
FileHashes remembered_hashes(const std::filesystem::path& path);

/// A tensor with numbers that no weight should be.
struct NotFinite {
  std::string name;
  int64_t nans = 0, infinities = 0, numbers = 0;
};
/// Looks at every floating-point tensor, one in memory at a time.
std::vector<NotFinite> not_finite(const io::TensorFile& file);

}  // namespace emulsion::weights
