// Hypernetworks in AUTOMATIC1111's files, read and written.
#pragma once

#include <filesystem>
#include <string>

#include "adapters/hypernetwork.h"

namespace emulsion::weights {

/// Throws: Error{format} naming what is missing or does not fit together; Error{unsupported} for an activation that is not built.
adapters::Hypernetwork load_hypernetwork(const std::filesystem::path& file);

/// What a file says beside its tensors.
struct HypernetworkFacts {
  adapters::HypernetworkConfig config;
  std::string name = {}, model = {};  // its own, and that of the checkpoint it was trained on
  int64_t steps = 0;
};

/// A `.pt` as torch.save writes it: nothing else is read there. Atomically.
void save_hypernetwork(const std::filesystem::path& file, adapters::Hypernetwork& network, const HypernetworkFacts& facts);

}  // namespace emulsion::weights
