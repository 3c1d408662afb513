// How long drawing a picture takes here, on random weights of a family's true sizes or with a given model.
#pragma once

#include <cstdint>
#include <string>

#include "core/progress.h"
#include "core/tensor.h"

namespace emulsion::generate {

struct DrawingBenchOptions {
  std::string model = "sd1";  // id of a family (models/family.h), or where a model lies
  bool tiny = false;          // its tiny twin
  std::string sampler = "euler";
  int64_t size = 0;  // pixels per side; 0: the family's own
  int64_t batch = 1;
  int64_t steps = 4;
  double cfg = 7;  // not 1: the network sees every picture twice
  at::ScalarType dtype = at::kFloat;
  int64_t threads = 0;
};

struct DrawingBenchResult {
  double start_seconds = 0;     // from the start of the process to that of the first step
  double text_seconds = 0;      // prompts to text states
  double first_step = 0;        // seconds
  double seconds_per_step = 0;  // median of the steps after the first; of one step: that one
  double decode_seconds = 0;    // latents to pixels
  int64_t peak_memory_bytes = 0;
};

/// Draws with weights of plausible size: what a picture of noise costs, a real one does too.
/// Throws: Error{not_found} for what is neither a family nor a path; what load_model throws.
DrawingBenchResult bench_drawing(const DrawingBenchOptions& options, Reporter& reporter);

}  // namespace emulsion::generate
