#include "nn/flops.h"

namespace emulsion::nn {
namespace {

thread_local double* counting = nullptr;

}  // namespace

FlopCounter::FlopCounter() { counting = &flops_; }
FlopCounter::~FlopCounter() { counting = nullptr; }

void FlopCounter::add(double flops) {
  if (counting) *counting += flops;
}

}  // namespace emulsion::nn
