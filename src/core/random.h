// Addressed randomness: every random number is a pure function of (seed, purpose, step, index).
//
// Nothing is consumed, so resuming needs only the step number, and the number of threads, workers
// or machines cannot change a run. The generator is Philox (core/philox.h). Where a picture's seed
// must mean what it means elsewhere, core/noise.h stands beside it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace emulsion {

/// What a random number is for. Values are part of every recorded run: append, never renumber.
enum class Purpose : uint32_t {
  noise = 1,
  timestep = 2,
  latent = 3,   // sampling from an autoencoder's posterior
  caption = 4,  // caption choice and dropout
  augment = 5,  // crop position and flip
  order = 6,    // order of samples in an epoch
  init = 7,     // weight initialisation
  sample = 8,   // generation: initial latents and ancestral noise
  dropout = 9,
  noise_offset = 10,  // training: the colour that is added to noise
  pyramid = 11,       // training: coarse noise
  perturbation = 12,  // training: what only the network's input gets
  validation = 13,    // noise on held-back pictures
  rounding = 14,      // of bfloat16 weights
};

/// The numbers at one address (seed, purpose, step, index): a small deterministic sequence.
class Stream {
 public:
  Stream(uint64_t seed, Purpose purpose, uint64_t step, uint64_t index);

  uint32_t next();           // 32 random bits
  double uniform();          // [0, 1), 53 bits
  double normal();           // standard normal
  int64_t below(int64_t n);  // [0, n), without modulo bias; n >= 1
  std::vector<int64_t> permutation(int64_t n);

 private:
  void refill();
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_, block_;
  int used_ = 4;
};

/// All random numbers of a run.
class Rng {
 public:
  explicit Rng(uint64_t seed) : seed_(seed) {}

  uint64_t seed() const { return seed_; }
  Stream stream(Purpose purpose, uint64_t step = 0, uint64_t index = 0) const {
    return Stream(seed_, purpose, step, index);
  }

  /// Standard normal numbers, float32 on the CPU, of the given shape. The same on any number of
  /// threads. Source: Box & Muller 1958, on 24-bit uniforms.
  Tensor normal(at::IntArrayRef shape, Purpose purpose, uint64_t step = 0,
                uint64_t index = 0) const;

 private:
  uint64_t seed_;
};

/// A hash of a text to address randomness by name (FNV-1a, 64 bit).
uint64_t hash_name(std::string_view name);

}  // namespace emulsion
