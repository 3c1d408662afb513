// How long a training step takes here, on random weights of named sizes.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/operator_profile.h"
#include "core/progress.h"
#include "train/config.h"

namespace emulsion::train {

enum class ProfileDetail { none, operators, shapes };
constexpr auto enum_names(ProfileDetail) {
  return std::to_array<std::pair<ProfileDetail, const char*>>(
      {{ProfileDetail::none, "none"}, {ProfileDetail::operators, "operators"}, {ProfileDetail::shapes, "shapes"}});
}

struct BenchOptions {
  std::string model = "quickstart";    // a name of `bench_models`
  std::string method = "diffusion";    // diffusion or lora
  bool tiny = false;                   // a family's tiny twin
  int64_t size = 0;                    // pixels; 0: the model's own
  int64_t batch = 0;                   // 0: 16 for the quickstart model, 1 for a family
  ComputeDtype dtype = ComputeDtype::float32;
  int64_t steps = 20;
  int64_t threads = 0;
  std::vector<std::pair<std::string, std::string>> settings = {};  // of RunConfig, as `--set`: {"method.algo", "loha"}
  ProfileDetail profile = ProfileDetail::none;
};

struct BenchResult {
  double seconds_per_step = 0;    // median, after the first
  double fastest_step = 0;
  double first_step_seconds = 0;  // from the call to the end of the first optimizer step
  double first_loss = 0;
  int64_t peak_memory_bytes = 0;
  int64_t peak_tensor_bytes = 0;  // in tensors at once, without what the allocator keeps for reuse
  double faults_per_step = 0;     // pages touched for the first time, after the first two steps
  double requests_per_step = 0;   // blocks asked of the system, likewise
  double step_gflop = 0;          // arithmetic of a step
  double peak_gflops = 0;         // measured on matrix products in the same dtype
  double share_of_peak = 0;
  std::vector<OperatorTime> operators;  // per step, most time first; empty unless asked for
};

/// Names that `BenchOptions::model` may have.
std::vector<std::string> bench_models();

/// Forward, backward, clipping and optimizer on random inputs. The quickstart's model as its run has it: the text encoder trains,
/// a moving average is kept. A family as its users train it: recorded text states, LoRA of rank 16 on the U-Net's attention or
/// the whole U-Net, no average.
/// Throws: Error{config} for an unknown name or a setting that does not fit.
BenchResult bench_step(const BenchOptions& options, Reporter& reporter);

/// GFLOP/s of the best of several square matrix products, about half a second's worth.
double measure_peak(at::ScalarType dtype);

}  // namespace emulsion::train
