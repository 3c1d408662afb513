// Initialisation from random numbers, as a table of rules over tensor paths.
#pragma once

#include <string>
#include <vector>

#include "core/random.h"
#include "nn/param_store.h"

namespace emulsion::nn {

enum class InitKind {
  zeros,
  ones,
  normal,          // N(0, gain^2)
  normal_fan_in,   // N(0, gain^2 / fan_in), fan_in = product of all dimensions but the first
  uniform_fan_in,  // U(-b, b), b = gain / sqrt(fan_in); gain 1 is the field's kaiming_uniform_(a = sqrt 5)
};

struct InitRule {
  std::string pattern;  // glob over the tensor's path
  InitKind kind;
  double gain = 1;
};

/// A new float32 tensor drawn by `kind`; a pure function of (rng's seed, name).
Tensor draw(InitKind kind, double gain, at::IntArrayRef shape, const Rng& rng, const std::string& name);

/// Fills every tensor of the store by the last rule that matches its path.
/// Throws Error{internal} when no rule matches one.
void initialise(ParamStore& store, const Rng& rng, const std::string& component,
                const std::vector<InitRule>& rules);

}  // namespace emulsion::nn
