// What the machine is, what it measures, and what follows for training.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace emulsion::app {

struct Machine {
  std::string processor, features, torch, onednn, cuda;
  int64_t threads = 1, memory_left = 0, disk_left = 0;
  double load = 0;                   // average of the last minute
  double float32 = 0, bfloat16 = 0;  // measured, GFLOP/s
};

/// Looks and measures, about two seconds.
Machine examine();

/// What will be slow, or will not work, and why: a sentence or two each.
std::vector<std::string> findings(const Machine& machine);

}  // namespace emulsion::app
