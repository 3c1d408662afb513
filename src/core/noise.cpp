#include "core/noise.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "core/error.h"
#include "core/philox.h"
#include "core/random.h"

namespace emulsion {
namespace {

/// Draw k is addressed, not consumed.
class AddressedSequence : public NoiseSequence {
 public:
  explicit AddressedSequence(uint64_t seed) : rng_(seed) {}
  Tensor draw(at::IntArrayRef shape) override {
    return rng_.normal(shape, Purpose::sample, draws_++);
  }

 private:
  Rng rng_;
  uint64_t draws_ = 0;
};

/// ATen's own generator and fill, hence its bits: from 16 numbers on it fills with uniforms and
/// transforms halves of 16 at a time; below, number by number, and a second normal of a pair waits
/// for the next draw.
class TorchCpuSequence : public NoiseSequence {
 public:
  explicit TorchCpuSequence(uint64_t seed) : generator_(at::detail::createCPUGenerator(seed)) {}
  Tensor draw(at::IntArrayRef shape) override {
    return at::randn(shape, generator_, at::TensorOptions().dtype(at::kFloat));
  }

 private:
  at::Generator generator_;
};

/// cuRAND's Box-Muller of two words of 32 bits. The constants are float32 there: 2^-32, and 2^-32 *
/// 2 pi.
float cuda_normal(uint32_t radius_bits, uint32_t angle_bits) {
  constexpr double kUnit = 0x1p-32;
  constexpr double kTurn = static_cast<float>(2.3283064e-10 * 6.2831855);
  const double u = radius_bits * kUnit + kUnit / 2;
  const double angle = angle_bits * kTurn + kTurn / 2;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::sin(angle));
}

class CudaSequence : public NoiseSequence {
 public:
  explicit CudaSequence(uint64_t seed) : key_(halves(seed)) {}
  Tensor draw(at::IntArrayRef shape) override {
    Tensor out = at::empty(shape, at::kFloat);
    auto* data = out.data_ptr<float>();
    at::parallel_for(0, out.numel(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto bits = philox(key_, {draws_, 0, static_cast<uint32_t>(i), 0});
        data[i] = cuda_normal(bits[0], bits[1]);
      }
    });
    ++draws_;
    return out;
  }

 private:
  std::array<uint32_t, 2> key_;
  uint32_t draws_ = 0;
};

}  // namespace

std::unique_ptr<NoiseSequence> noise_sequence(NoiseSource source, uint64_t seed) {
  switch (source) {
    case NoiseSource::emulsion:
      return std::make_unique<AddressedSequence>(seed);
    case NoiseSource::cpu:
      return std::make_unique<TorchCpuSequence>(seed);
    case NoiseSource::nv:
      return std::make_unique<CudaSequence>(seed);
  }
  throw Error(ErrorCode::internal, "[noise] unknown source");
}

BatchNoise::BatchNoise(NoiseSource source, uint64_t first_seed, int64_t pictures) {
  for (int64_t i = 0; i < pictures; ++i) {
    sequences_.push_back(noise_sequence(source, first_seed + static_cast<uint64_t>(i)));
  }
}

Tensor BatchNoise::draw(at::IntArrayRef shape) {
  std::vector<Tensor> pictures;
  for (const auto& sequence : sequences_) pictures.push_back(sequence->draw(shape));
  return at::stack(pictures);
}

}  // namespace emulsion
