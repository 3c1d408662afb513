// What `emulsion generate` is asked, and the request that follows from it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/progress.h"
#include "generate/networks.h"
#include "generate/parameters.h"

namespace emulsion::app {

/// As on the command line. What is not given comes from the picture of --from-image, or is the default.
struct GenerateArguments {
  std::string model, vae, from_image, dtype = "float32", vae_dtype, vae_tiling = "auto", output = ".";
  std::vector<std::string> prompts, loras, hypernetworks;
  std::optional<std::string> negative, sampler, schedule, rng, syntax;
  std::optional<int64_t> seed, steps, clip_skip;
  std::optional<double> cfg, cfg_rescale, strength;
  std::string size, init_image, mask, lora_folder, hypernetwork_folder, embeddings_folder, init_latents, save_latents;
  int64_t batch = 1;
  bool grid = false, json = false;
};

/// A request before the model is known, and what it needs besides.
struct Asked {
  generate::Request request;
  std::vector<models::NetworkTag> networks;  // beside those in prompts
  generate::NetworkFiles files;

  /// Everything that acts on a picture.
  std::vector<models::NetworkTag> networks_of(size_t index) const;
  /// How many pictures from `first` on are drawn together: they use the same networks, and are at most eight of 512 x 512, or
  /// as many of another size as have their pixels. The request must be resolved.
  size_t drawn_together(size_t first) const;
  /// What text encoders will read, without tags.
  std::vector<std::string> texts() const;
};

/// Reads the pictures that the arguments name; what cannot be carried over from one is noted.
/// Throws: Error{config} for arguments that contradict each other, Error{not_found, io, format} for files.
Asked asked_by(const GenerateArguments& arguments, Reporter& reporter);

/// "file:0.8" of --lora ("lora") or --hypernetwork ("hypernet") as a tag of its name.
models::NetworkTag tag_of(const std::string& kind, const std::string& file);

}  // namespace emulsion::app
