// Where and in what numbers to compute: devices, threads, CPU features.
#pragma once

#include <cstdint>
#include <string>

#include "core/tensor.h"

namespace emulsion {

/// "cpu", "cuda", "cuda:1". Loads libtorch_cuda on the first use of a CUDA device.
/// Throws: Error{unsupported} naming what is missing.
at::Device find_device(const std::string& name);

/// Compute threads: `wanted`, or one per physical core allowed to this process when 0. Call before any tensor work.
int64_t set_compute_threads(int64_t wanted);

/// Bytes: the process's largest and present resident set, the machine's memory that could be had.
int64_t peak_memory_bytes();
int64_t resident_memory_bytes();
int64_t available_memory_bytes();
/// Bytes that tensors on a device take now, and the most since the start or the last trim (0, 0 without the caching allocator).
struct TensorBytes {
  int64_t now = 0, peak = 0;
};
TensorBytes tensor_bytes(at::Device device);
/// Bytes that tensors on a device may take in all, if the process has `limit` bytes; 0: what it has already and what is free.
int64_t tensor_bytes_limit(at::Device device, int64_t limit);

/// Pages that this process touched for the first time since its start.
int64_t page_faults();

/// Whether bfloat16 matrix products run in hardware here (AVX512-BF16 or AMX); without it they are many times
/// slower than float32.
bool has_fast_bfloat16();

/// "AVX512F AVX512-BF16 AMX-BF16 ...", what the processor has of what matters here.
std::string cpu_features();

}  // namespace emulsion
