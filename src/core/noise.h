// The noise of a picture, so that a seed known from elsewhere gives the picture known from
// elsewhere.
//
// PyTorch programs draw from one generator per picture: first the initial latents, then whatever
// the sampler asks for, step after step. A NoiseSequence is such a generator. Which one a program
// used:
//   cpu  diffusers with a CPU generator per picture; A1111's "Random number generator source: CPU";
//   ComfyUI nv   a CUDA generator; A1111's "GPU" and "NV"
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace emulsion {

enum class NoiseSource {
  emulsion,  // Rng at Purpose::sample: the same on every machine
  cpu,       // PyTorch's Mersenne Twister
  nv,        // PyTorch's Philox on CUDA
};

constexpr auto enum_names(NoiseSource) {
  return std::to_array<std::pair<NoiseSource, const char*>>(
      {{NoiseSource::emulsion, "emulsion"}, {NoiseSource::cpu, "cpu"}, {NoiseSource::nv, "nv"}});
}

/// Standard normal numbers in the order in which they are asked for.
class NoiseSequence {
 public:
  virtual ~NoiseSequence() = default;

  /// The next numbers: float32 on the CPU. The same for any number of threads.
  virtual Tensor draw(at::IntArrayRef shape) = 0;
};

/// - cpu: the bits of `torch.manual_seed(seed); torch.randn(shape); torch.randn(shape); ...`. Only
/// the low 32 bits
///   of a seed count, as there. PyTorch computes other last digits on processors without AVX2; so
///   does this.
/// - nv: what `torch.cuda.manual_seed(seed)` gives, as A1111's "NV" computes it: float64 rounded to
/// float32, so the
///   last digit may differ from a GPU's. Draw k, number i: Philox with key `seed` and counter (k,
///   0, i, 0), of whose bits the first two make one normal number (Box & Muller 1958, the sine). A
///   GPU does so while it has a thread for each number (125,952 on an RTX 3090; 1024 px SDXL
///   latents are 65,536); what it does beyond depends on the GPU.
std::unique_ptr<NoiseSequence> noise_sequence(NoiseSource source, uint64_t seed);

/// The sequences of pictures drawn together. The i-th has the seed `first_seed` + i, as A1111
/// counts, so that it is the same picture in any batch.
class BatchNoise {
 public:
  BatchNoise(NoiseSource source, uint64_t first_seed, int64_t pictures);

  /// The next noise of every picture. `shape`: of one picture, [C,h,w]. Returns: [B,C,h,w],
  /// float32, CPU.
  Tensor draw(at::IntArrayRef shape);

 private:
  std::vector<std::unique_ptr<NoiseSequence>> sequences_;
};

}  // namespace emulsion
