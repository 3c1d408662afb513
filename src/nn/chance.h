// What layers draw by chance while a network trains: dropout. Every number follows from the run's seed, the pass or the sample's
// draw, and the layer, so that neither threads nor the cut of a batch nor a repeated block change any.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/random.h"

namespace emulsion::nn {

/// Of the batch that is under way.
struct Chance {
  Rng rng{0};
  uint64_t pass = 0;           // counts forward passes over whole batches
  std::vector<int64_t> draws;  // of each sample
};

/// This thread's; nothing while it does not train.
const Chance* chance();
/// Holds until it is set again: a block may be repeated in the backward pass.
void set_chance(Chance chance);

/// While it lives, this thread draws nothing by chance: for previews and validation.
class WithoutChance {
 public:
  WithoutChance();
  ~WithoutChance();
  WithoutChance(const WithoutChance&) = delete;
  WithoutChance& operator=(const WithoutChance&) = delete;

 private:
  std::optional<Chance> before_;
};

/// Zeros with probability `p` and 1 / (1 - p) otherwise, in the shape [B, ...] and dtype of x, or with `per_channel` one number for
/// each sample and channel of the dimension `channels`: [B, 1, .., C, .., 1]. `layer`: hash_name of its path.
Tensor dropout_mask(const Tensor& x, double p, uint64_t layer, const Chance& chance, std::optional<int64_t> channels = {});

/// Whether this pass leaves the layer out, with probability `p`; the same for all samples.
bool is_left_out(double p, uint64_t layer, const Chance& chance);

}  // namespace emulsion::nn
