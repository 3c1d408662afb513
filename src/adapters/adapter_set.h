// One trained file's adapters, bound to the leaves of a model, and the scope in which they act.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "adapters/adapter.h"
#include "adapters/config.h"
#include "core/random.h"
#include "nn/param_store.h"

namespace emulsion::adapters {

class AdapterSet {
 public:
  struct Bound {
    std::string path;  // component and leaf: "unet.mid_block.attentions.0.proj_in"
    nn::Leaf* leaf;
    std::unique_ptr<Adapter> adapter;
    LayerRule rule = {};  // its learning rate and when it trains
  };

  /// Fresh adapters on every leaf that the config's patterns select.
  /// Throws: Error{not_found} for a pattern that matches nothing, of targets or of layers.
  static AdapterSet create(const AdapterConfig& config, const std::vector<nn::Component>& components, const Rng& rng);

  /// For adapters out of a file: learning rates, steps and dropout as the config says; ranks and alphas are the file's.
  /// Throws: Error{config} for a rule that asks for another rank or alpha; Error{not_found} for a pattern that matches nothing.
  void follow(const AdapterConfig& config);

  /// Scales down the updates of plain LoRAs whose norm is larger. Source: max-norm regularisation of sd-scripts
  /// (--scale_weight_norms).
  void limit_norms(double max);

  void add(Bound bound) { bound_.push_back(std::move(bound)); }
  std::vector<Bound>& bound() { return bound_; }
  const std::vector<Bound>& bound() const { return bound_; }

  /// "<path>.lora_down.weight", ...
  NamedTensors params() const;
  int64_t numel() const;

 private:
  std::vector<Bound> bound_;
};

/// 3x3 and larger: those that kohya's conv_dim (here conv_rank) is for.
bool is_large_convolution(const nn::Leaf& leaf);

/// Every leaf of the components: its path with the component's name, and the leaf.
std::vector<std::pair<std::string, nn::Leaf*>> leaves_of(const std::vector<nn::Component>& components);

/// Puts the set's effect at this strength into the weights that it is bound to, for good. Rounds once, to their dtype.
/// Throws: Error{unsupported} naming a layer whose effect is no change of its weight.
void bake(AdapterSet& set, double strength, const std::vector<nn::Component>& components);

/// While it lives, the sets act on their leaves, each at its strength.
class ActiveAdapters {
 public:
  struct Entry {
    AdapterSet* set;
    double strength;
  };
  explicit ActiveAdapters(std::vector<Entry> entries);
  ~ActiveAdapters();
  ActiveAdapters(const ActiveAdapters&) = delete;
  ActiveAdapters& operator=(const ActiveAdapters&) = delete;

 private:
  std::vector<Entry> entries_;
};

}  // namespace emulsion::adapters
