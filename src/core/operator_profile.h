// Where the time of tensor work goes, by operator.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace emulsion {

struct OperatorTime {
  std::string name;     // ATen's, e.g. "aten::mm", or ours, e.g. "emulsion::group_norm"; ": backward" after autograd nodes
  std::string shapes;   // of its tensors, e.g. "[16, 64] [64, 64]"; empty unless asked for
  int64_t calls = 0;
  double seconds = 0;   // without the operators that it calls
  double gflop = 0;     // 0 where it is not counted: only products, convolutions and attention are
};

/// Records every operator that this thread runs while it lives, backward included (on CPUs autograd runs in the thread
/// that calls it). Costs about a microsecond per operator. One at a time per thread.
class OperatorProfile {
 public:
  explicit OperatorProfile(bool by_shape = false);
  ~OperatorProfile();
  OperatorProfile(const OperatorProfile&) = delete;
  OperatorProfile& operator=(const OperatorProfile&) = delete;

  /// Most time first.
  std::vector<OperatorTime> times() const;

 private:
  struct Recording;
  std::unique_ptr<Recording> recording_;
};

}  // namespace emulsion
