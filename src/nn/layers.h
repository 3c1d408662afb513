// The layers that models are made of: typed members that declare their tensors in a Scope.
#pragma once

#include <string>

#include "core/tensor.h"
#include "nn/param_store.h"

namespace emulsion::nn {

/// y = x W^T + b.  x [..., in] -> [..., out].
class Linear {
 public:
  Linear(const Scope& scope, int64_t in, int64_t out, bool bias = true);
  Tensor operator()(const Tensor& x) const { return leaf_->forward(x); }

 private:
  const Leaf* leaf_;
};

/// x [B, in, H, W] -> [B, out, H', W'], square kernel.
class Conv2d {
 public:
  Conv2d(const Scope& scope, int64_t in, int64_t out, int64_t kernel, int64_t stride = 1,
         int64_t padding = 0);
  Tensor operator()(const Tensor& x) const { return leaf_->forward(x); }

 private:
  const Leaf* leaf_;
};

/// ids [B, L] -> [B, L, D].
class Embedding {
 public:
  Embedding(const Scope& scope, int64_t count, int64_t width);
  Tensor operator()(const Tensor& ids) const { return leaf_->forward(ids); }

 private:
  const Leaf* leaf_;
};

/// Wu & He 2018, arXiv:1803.08494.  x [B, C, H, W], statistics per image and group of channels.
class GroupNorm {
 public:
  GroupNorm(const Scope& scope, int64_t groups, int64_t channels, double eps);
  Tensor operator()(const Tensor& x) const;
  /// silu(group_norm(x)), the pair that every residual block runs, in one pass.
  Tensor then_silu(const Tensor& x) const;

 private:
  const Leaf* leaf_;
  int64_t groups_;
  double eps_;
};

/// Ba et al. 2016, arXiv:1607.06450, over the last dimension.
class LayerNorm {
 public:
  LayerNorm(const Scope& scope, int64_t width, double eps = 1e-5);
  Tensor operator()(const Tensor& x) const;

 private:
  const Leaf* leaf_;
  int64_t width_;
  double eps_;
};

}  // namespace emulsion::nn
