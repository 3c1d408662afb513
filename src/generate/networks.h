// LoRA and hypernetworks that prompts call by name, on a model.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "adapters/adapter_set.h"
#include "adapters/hypernetwork.h"
#include "generate/named_files.h"
#include "models/model.h"
#include "models/prompt_parts.h"

namespace emulsion::generate {

/// The tags of a prompt.
std::vector<models::NetworkTag> networks_of(const std::string& prompt);

/// The files that tags call.
struct NetworkFiles {
  NamedFiles loras, hypernetworks;

  /// Throws: Error{not_found} for a name that is none; Error{unsupported} for kinds that are not built.
  std::filesystem::path find(const models::NetworkTag& tag) const;
};

/// What acts while it lives.
struct ActiveNetworks {
  std::unique_ptr<adapters::ActiveAdapters> adapters;
  std::unique_ptr<adapters::ActiveHypernetworks> hypernetworks;
};

/// Keeps what it has loaded. Must not outlive the model.
class Networks {
 public:
  Networks(models::Model& model, NetworkFiles files) : model_(model), files_(std::move(files)) {}

  /// While the result lives, exactly the networks of these tags act: LoRA each with its strengths on text encoders and U-Net,
  /// hypernetworks with the latter; those of one name add up. One result at a time.
  /// Throws: as NetworkFiles::find and the loaders.
  ActiveNetworks activate(const std::vector<models::NetworkTag>& tags);

 private:
  struct Lora {
    adapters::AdapterSet text, unet;
  };
  Lora& lora(const std::filesystem::path& file);
  adapters::Hypernetwork& hypernetwork(const std::filesystem::path& file);

  models::Model& model_;
  NetworkFiles files_;
  std::map<std::filesystem::path, Lora> loras_;
  std::map<std::filesystem::path, adapters::Hypernetwork> hypernetworks_;
};

}  // namespace emulsion::generate
