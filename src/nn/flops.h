// Counts the arithmetic of the networks while it lives: what "share of the machine's peak" is measured by.
#pragma once

#include <cstdint>

namespace emulsion::nn {

/// Floating-point operations (two per multiply-add) of every leaf and attention run by this thread, forward only.
/// One at a time per thread.
class FlopCounter {
 public:
  FlopCounter();
  ~FlopCounter();
  FlopCounter(const FlopCounter&) = delete;
  FlopCounter& operator=(const FlopCounter&) = delete;

  double flops() const { return flops_; }

  /// Called where the arithmetic happens; does nothing when nobody counts.
  static void add(double flops);

 private:
  double flops_ = 0;
};

}  // namespace emulsion::nn
