// All tensors of one model component, addressed by path, and the scopes by which layers declare them.
//
// Layers declare, loaders and initialisers fill: constructing a model allocates nothing and draws no random
// numbers. The path of a tensor is its key in a diffusers / transformers checkpoint.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/tensor.h"
#include "nn/leaf.h"

namespace emulsion::nn {

/// One tensor of a model.
struct Param {
  std::string path;            // e.g. "down_blocks.0.resnets.0.conv1.weight"
  std::vector<int64_t> shape;
  Tensor value = {};           // undefined until loaded or initialised
};

/// The layout that weights and activations have: 4-d ones channels_last, others row-major.
at::MemoryFormat layout_of(const Tensor& value);

class ParamStore {
 public:
  ParamStore() = default;
  ParamStore(const ParamStore&) = delete;
  ParamStore& operator=(const ParamStore&) = delete;

  /// Declares a tensor. Throws Error{internal} if the path is taken.
  Param& declare(const std::string& path, std::vector<int64_t> shape);
  /// Declares a place where an input meets a weight; its tensors are declared by the caller.
  Leaf& declare_leaf(Leaf leaf);

  /// All tensors, in the order of declaration.
  const std::deque<Param>& params() const { return params_; }
  std::deque<Param>& params() { return params_; }
  std::deque<Leaf>& leaves() { return leaves_; }
  const std::deque<Leaf>& leaves() const { return leaves_; }

  Param* find(std::string_view path);
  Leaf* find_leaf(std::string_view path);
  /// Throws Error{not_found}.
  Param& at(std::string_view path);

  /// Gives the declared tensor its value: shape checked (Error{shape}), 4-d weights made channels_last.
  void assign(Param& param, const Tensor& value);

  /// Casts every filled tensor (and moves it); keeps channels_last. Detaches from any graph.
  void convert(at::ScalarType dtype, at::Device device = at::kCPU);

  void set_requires_grad(bool on);

  int64_t numel() const;

 private:
  std::deque<Param> params_;
  std::deque<Leaf> leaves_;
  std::unordered_map<std::string, Param*> by_path_;
  std::unordered_map<std::string, Leaf*> leaf_by_path_;
};

/// A part of a model by its folder name, as adapters and files address it: "unet", "text_encoder", "vae".
struct Component {
  std::string name;
  ParamStore* store;
};

/// A path prefix inside a store: `scope / "attn1" / "to_q"`.
class Scope {
 public:
  explicit Scope(ParamStore& store, std::string path = "") : store_(&store), path_(std::move(path)) {}

  Scope operator/(std::string_view name) const {
    return Scope(*store_, path_.empty() ? std::string(name) : path_ + "." + std::string(name));
  }
  Scope operator/(int64_t index) const { return *this / std::to_string(index); }

  const std::string& path() const { return path_; }
  ParamStore& store() const { return *store_; }
  Param& param(std::string_view name, std::vector<int64_t> shape) const {
    return store_->declare((*this / name).path(), std::move(shape));
  }

 private:
  ParamStore* store_;
  std::string path_;
};

}  // namespace emulsion::nn
