// The one place where an input meets a weight. Every adapter kind acts through a Leaf, so models never mention adapters.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "nn/linear.h"

namespace emulsion::nn {

struct Param;
struct Leaf;

/// Changes what a leaf computes. Kinds override the hooks that they need.
class LeafAdapter {
 public:
  virtual ~LeafAdapter() = default;

  /// x -> x', before the weight.
  virtual Tensor map_input(const Tensor& x) const { return x; }
  /// w -> w', shape of the weight.
  virtual Tensor map_weight(const Tensor& w) const { return w; }
  /// b -> b', shape of the bias; undefined where the leaf has none.
  virtual Tensor map_bias(const Tensor& b) const { return b; }
  /// y -> y', after weight and bias; `x` is the leaf's (mapped) input.
  virtual Tensor map_output(const Tensor& y, const Tensor& x) const { return y; }
  /// The whole effect on a linear leaf as an update of its weight, which can then be one operation with it, or nothing: then, and
  /// where other adapters act too, the hooks above are called.
  virtual std::optional<LowRank> low_rank() const { return std::nullopt; }
  /// An embedding's rows [n, D] for the ids behind its table, or nothing.
  virtual std::optional<Tensor> more_rows() const { return std::nullopt; }
  /// The weight that gives the adapter's effect without it (but for its bias), or nothing where there is none.
  virtual std::optional<Tensor> bake(const Tensor& w) const { return std::nullopt; }
  /// Its tensors by short name ("down", "up").
  virtual NamedTensors params() const = 0;
};

enum class LeafKind { linear, conv2d, embedding, norm };

/// linear:    x [..., in] with weight [out, in] -> [..., out]
/// conv2d:    x [B, in, H, W] with weight [out, in, kh, kw] -> [B, out, H', W']
/// embedding: x integer [B, L] with weight [n, D] -> [B, L, D]
/// norm:      weight and bias [C] of a layer that computes with both at once; forward() is not for it
struct Leaf {
  std::string path;  // e.g. "mid_block.attentions.0.proj_in"
  LeafKind kind = LeafKind::linear;
  const Param* weight = nullptr;
  const Param* bias = nullptr;  // may be absent
  int64_t stride = 1;
  int64_t padding = 0;
  std::vector<const LeafAdapter*> adapters = {};  // active ones; inputs mapped first to last, outputs last to first

  Tensor forward(const Tensor& x) const;

  /// Weight and bias as the adapters have them.
  std::pair<Tensor, Tensor> adapted() const;

  /// The bare operation of this leaf with another weight and bias (bias may be undefined).
  Tensor apply(const Tensor& x, const Tensor& weight, const Tensor& bias) const;
};

/// While it lives, leaves compute on this thread as if nothing changed them: what the untouched model says.
class WithoutAdapters {
 public:
  WithoutAdapters();
  ~WithoutAdapters();
  WithoutAdapters(const WithoutAdapters&) = delete;
  WithoutAdapters& operator=(const WithoutAdapters&) = delete;

 private:
  bool before_;
};

}  // namespace emulsion::nn
