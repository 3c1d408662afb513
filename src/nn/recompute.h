// Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174): a block keeps its inputs alone, and its forward pass is repeated
// in the backward pass. Which blocks do so is a plan: as many as must, to fit into the memory that there is.
#pragma once

#include <functional>
#include <vector>

#include "core/tensor.h"

namespace emulsion::nn {

/// What keeping a block's forward pass costs, and what repeating it.
struct BlockCost {
  int64_t bytes = 0;   // kept for the backward pass, without the block's inputs and output
  double seconds = 0;  // of its forward pass
  int64_t numel = 0;   // of its input when this was measured
  bool frozen = false; // nothing in it or before it trains: there is nothing to keep and nothing to repeat
};

/// The blocks to keep, chosen by time saved per byte, so that all together take at most `budget` bytes.
std::vector<bool> blocks_to_keep(const std::vector<BlockCost>& costs, int64_t budget);

/// A network's plan. Blocks are numbered in the order in which a forward pass enters them; all are repeated, and thereby measured,
/// until `keep` says otherwise. Which ones are kept changes no bit of any gradient (having no plan at all does, as gradients
/// are then added in another order): a run that goes on, measuring again, has the bits of one that was never stopped.
class Recomputation {
 public:
  /// Costs of the blocks as they were measured.
  const std::vector<BlockCost>& costs() const { return costs_; }
  bool keeps(size_t index) const { return index < kept_.size() && kept_[index]; }
  /// From now on these blocks are kept, as long as their inputs are no larger than when they were measured.
  void keep(std::vector<bool> blocks) { kept_ = std::move(blocks); }
  /// Whether an input was larger than that since the last call of `keep`.
  bool outgrown() const { return outgrown_; }
  /// Measures again from the next pass on.
  void forget();

  /// While it lives, the blocks of this thread's forward passes follow the plan.
  class Scope {
   public:
    explicit Scope(Recomputation* plan);  // null: every block is kept
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Recomputation* before_;
  };

 private:
  friend Tensor block(const std::function<Tensor(const Tensor&, const Tensor&)>&, const Tensor&, const Tensor&);
  friend struct RepeatedBlock;

  bool keeps_now(size_t index, int64_t numel);
  void measured(size_t index, const BlockCost& cost);

  std::vector<BlockCost> costs_;
  std::vector<bool> kept_;
  bool outgrown_ = false;
  size_t entered_ = 0;  // blocks of the forward pass that is under way
};

/// f(x, other), kept or repeated as this thread's plan says. Blocks may not lie within each other; f must live until the backward
/// pass and give the same again. `other` may be undefined. Gradients of weights are added to the weights' own, so that
/// torch::autograd::grad does not return them: a plan is for backward().
Tensor block(const std::function<Tensor(const Tensor&, const Tensor&)>& f, const Tensor& x, const Tensor& other);

}  // namespace emulsion::nn
