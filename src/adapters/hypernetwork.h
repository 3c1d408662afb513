// Hypernetworks as AUTOMATIC1111 has them: small networks through which the attention's keys and values see their input.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/random.h"
#include "nn/param_store.h"

namespace emulsion::adapters {

enum class Activation {
  linear, relu, leakyrelu, elu, swish, tanh, sigmoid, relu6, selu, celu, gelu, silu, mish, hardswish, hardtanh, hardsigmoid,
  softplus, softsign, tanhshrink
};
constexpr auto enum_names(Activation) {
  return std::to_array<std::pair<Activation, const char*>>({{Activation::linear, "linear"},
                                                            {Activation::relu, "relu"},
                                                            {Activation::leakyrelu, "leakyrelu"},
                                                            {Activation::elu, "elu"},
                                                            {Activation::swish, "swish"},
                                                            {Activation::tanh, "tanh"},
                                                            {Activation::sigmoid, "sigmoid"},
                                                            {Activation::relu6, "relu6"},
                                                            {Activation::selu, "selu"},
                                                            {Activation::celu, "celu"},
                                                            {Activation::gelu, "gelu"},
                                                            {Activation::silu, "silu"},
                                                            {Activation::mish, "mish"},
                                                            {Activation::hardswish, "hardswish"},
                                                            {Activation::hardtanh, "hardtanh"},
                                                            {Activation::hardsigmoid, "hardsigmoid"},
                                                            {Activation::softplus, "softplus"},
                                                            {Activation::softsign, "softsign"},
                                                            {Activation::tanhshrink, "tanhshrink"}});
}

enum class HypernetworkInit { normal, xavier_uniform, xavier_normal, kaiming_uniform, kaiming_normal };
constexpr auto enum_names(HypernetworkInit) {
  return std::to_array<std::pair<HypernetworkInit, const char*>>({{HypernetworkInit::normal, "normal"},
                                                                  {HypernetworkInit::xavier_uniform, "xavier_uniform"},
                                                                  {HypernetworkInit::xavier_normal, "xavier_normal"},
                                                                  {HypernetworkInit::kaiming_uniform, "kaiming_uniform"},
                                                                  {HypernetworkInit::kaiming_normal, "kaiming_normal"}});
}

struct HypernetworkConfig {
  std::vector<double> structure = {1, 2, 1};
  Activation activation = Activation::linear;
  bool activate_output = false;
  bool layer_norm = false;
  HypernetworkInit init = HypernetworkInit::normal;
  std::vector<double> dropout = {};
  std::vector<int64_t> widths = {};

  template <class V>
  void fields(V& v) {
    v("structure", structure, "Widths of the layers as multiples of the input's; the first and the last are 1.");
    v("activation", activation, "Between the layers; swish is PyTorch's Hardswish, as in AUTOMATIC1111.");
    v("activate_output", activate_output, "After the last layer, too.");
    v("layer_norm", layer_norm, "A layer norm after each layer.");
    v("init", init, "First weights: normal is N(0, 0.01); biases are 0.");
    v("dropout", dropout,
      "After each layer, the probability with which a number is 0 while training; as many as `structure` has, of which the first, "
      "0, stands for the input, as AUTOMATIC1111 counts: [0, 0.3, 0]. Empty: none.");
    v("widths", widths, "Widths of attention inputs that get a pair of networks (768, 320, 640, 1280 in SD 1); empty: all.");
  }
};

/// Layers, activations between them, and norms: [..., d] -> [..., d].
struct Mlp {
  struct Layer {
    bool norm = false;
    Tensor weight, bias;  // float32; [out, in] and [out], or both [out] of a norm
    double dropout = 0;   // after it and its activation, while training
  };
  std::vector<Layer> layers = {};
  Activation activation = Activation::linear;
  bool activate_output = false;

  /// In x's dtype. `place`: of the layer that it stands before, for what is left to chance.
  Tensor operator()(const Tensor& x, uint64_t place = 0) const;
  /// The tensors as torch.nn.Sequential counts its parts: "linear.0.weight", ...
  std::vector<std::pair<std::string, Tensor*>> parts();

 private:
  bool activates_after(const Layer& layer) const;
};

/// The networks of one file: per width one before the keys and one before the values.
class Hypernetwork {
 public:
  std::map<int64_t, std::array<Mlp, 2>> pairs;

  /// New ones for the widths of a U-Net's attention inputs. Throws: Error{config} for a structure that is none, Error{not_found}
  /// for a width that the U-Net does not have.
  static Hypernetwork create(const HypernetworkConfig& config, const nn::ParamStore& unet, const Rng& rng);

  /// Every tensor: "320.0.linear.0.weight" is of the network before the keys.
  std::vector<std::pair<std::string, Tensor*>> parts();
};

/// While it lives, the networks act on a U-Net, each at its strength: keys and values see x + strength * network(x), one after the
/// other.
class ActiveHypernetworks {
 public:
  struct Entry {
    const Hypernetwork* network;
    double strength;
  };
  /// Throws: Error{not_found} if no width of a network is one of the U-Net's.
  ActiveHypernetworks(nn::ParamStore& unet, const std::vector<Entry>& entries);
  ~ActiveHypernetworks();
  ActiveHypernetworks(const ActiveHypernetworks&) = delete;
  ActiveHypernetworks& operator=(const ActiveHypernetworks&) = delete;

 private:
  std::vector<std::pair<nn::Leaf*, std::unique_ptr<nn::LeafAdapter>>> bound_;
};

}  // namespace emulsion::adapters
