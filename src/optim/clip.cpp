#include "optim/clip.h"

#include <cmath>
#include <numeric>

#include "optim/chunks.h"
#include "optim/kernel_loops.h"

namespace emulsion::optim {
namespace {

constexpr double kEpsilon = 1e-6;  // torch's

double chunk_sum(const Tensor& grad, const Chunk& chunk) {
  const int64_t n = chunk.end - chunk.begin;
  if (grad.scalar_type() == at::kFloat) {
    return kernels::sum_of_squares(grad.const_data_ptr<float>() + chunk.begin, n);
  }
  std::vector<float> converted(n);
  const auto* bits = static_cast<const uint16_t*>(grad.const_data_ptr());
  kernels::from_bfloat16(bits + chunk.begin, converted.data(), n);
  return kernels::sum_of_squares(converted.data(), n);
}

/// A tensor whose storage can be read through: on the CPU, dense, float32 or bfloat16.
Tensor readable(const Tensor& grad) {
  const bool known = grad.scalar_type() == at::kFloat || grad.scalar_type() == at::kBFloat16;
  if (grad.is_cpu() && known && grad.is_non_overlapping_and_dense()) return grad;
  return grad.to(at::kCPU, at::kFloat).contiguous();
}

}  // namespace

double global_norm(const std::vector<Tensor>& grads) {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> tensors;
  std::vector<int64_t> sizes;
  for (const Tensor& grad : grads) {
    if (!grad.defined()) continue;
    tensors.push_back(readable(grad));
    sizes.push_back(grad.numel());
  }
  const std::vector<Chunk> chunks = chunks_of(sizes);
  std::vector<double> sums(chunks.size());
  for_each_chunk(static_cast<int64_t>(chunks.size()),
                 [&](int64_t i) { sums[i] = chunk_sum(tensors[chunks[i].tensor], chunks[i]); });
  return std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0));
}

Clip clip(const std::vector<Tensor>& grads, double limit, ClipBy by) {
  const at::NoGradGuard no_grad;
  const double norm = global_norm(grads);
  const auto scale = [&](double of) { return std::min(1.0, limit / (of + kEpsilon)); };
  if (limit == 0 || !std::isfinite(norm)) return {norm, 1};
  if (by == ClipBy::norm) return {norm, scale(norm)};
  for (const Tensor& grad : grads) {
    if (!grad.defined()) continue;
    if (by == ClipBy::value) {
      grad.clamp_(-limit, limit);
    } else if (const double factor = scale(global_norm({grad})); factor < 1) {
      grad.mul_(factor);
    }
  }
  return {norm, 1};
}

}  // namespace emulsion::optim
