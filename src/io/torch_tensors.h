// Internal to io: from the nodes of a pickle to the tensors of a file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "io/pickle.h"
#include "io/tensor_contents.h"
#include "io/torch_storage.h"

namespace emulsion::io {

struct TorchFileFacts {
  std::filesystem::path path;  // for messages only
  uint64_t size = 0;           // of the file
  bool byte_swapped = false;
};

/// All tensors below the root, named by the keys and indices that lead to them ("state_dict.betas",
/// "optimizer_states.0.state.3.exp_avg"), and as metadata the texts and numbers beside them. A
/// list of plain values is one value, as Python prints it: "[1, 2, 1]". The format is left to the
/// caller. Throws: Error{format} for a tensor that does not lie within its storage, a name that
/// comes twice, nesting beyond 64 levels.
TensorContents find_tensors(const TorchFileFacts& file, const Pickle& pickle,
                            const std::map<std::string, TorchStorage>& storages);

}  // namespace emulsion::io
