// LoRA files that prompts call by name, on a model.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "adapters/adapter_set.h"
#include "generate/named_files.h"
#include "models/model.h"
#include "models/prompt_parts.h"

namespace emulsion::generate {

/// The tags of a prompt.
std::vector<models::NetworkTag> networks_of(const std::string& prompt);

/// Keeps what it has loaded. Must not outlive the model.
class Networks {
 public:
  Networks(models::Model& model, NamedFiles files) : model_(model), files_(std::move(files)) {}

  /// While the result lives, exactly the LoRA of these tags act, each with its strengths on text encoders and U-Net; those
  /// of one name add up. One result at a time.
  /// Throws: Error{not_found} for a name that is none; Error{unsupported} for kinds that are not built.
  std::unique_ptr<adapters::ActiveAdapters> activate(const std::vector<models::NetworkTag>& tags);

 private:
  struct Loaded {
    adapters::AdapterSet text, unet;
  };
  Loaded& load(const models::NetworkTag& tag);

  models::Model& model_;
  NamedFiles files_;
  std::map<std::filesystem::path, Loaded> loaded_;
};

}  // namespace emulsion::generate
