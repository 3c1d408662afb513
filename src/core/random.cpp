#include "core/random.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <numbers>
#include <numeric>

#include "core/philox.h"

namespace emulsion {
namespace {

/// Spreads a 64-bit value over all its bits (the finaliser of SplitMix64, Steele et al. 2014).
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

struct Address {
  std::array<uint32_t, 2> key;
  std::array<uint32_t, 4> counter;
};

/// The key holds (seed, purpose), the counter's upper half (step, index); the lower half counts
/// blocks.
Address address_of(uint64_t seed, Purpose purpose, uint64_t step, uint64_t index) {
  const uint64_t key = mix(mix(seed) ^ static_cast<uint64_t>(purpose));
  const uint64_t place = mix(mix(step) ^ (index * 0xD1342543DE82EF95ULL + 1));
  const auto [low, high] = halves(place);
  return {halves(key), {0, 0, low, high}};
}

}  // namespace

Stream::Stream(uint64_t seed, Purpose purpose, uint64_t step, uint64_t index) {
  const Address address = address_of(seed, purpose, step, index);
  key_ = address.key;
  counter_ = address.counter;
}

void Stream::refill() {
  block_ = philox(key_, counter_);
  if (++counter_[0] == 0) ++counter_[1];
  used_ = 0;
}

uint32_t Stream::next() {
  if (used_ == 4) refill();
  return block_[used_++];
}

double Stream::uniform() {
  const uint64_t high = next(), low = next();
  return static_cast<double>(((high << 32) | low) >> 11) * 0x1.0p-53;
}

double Stream::normal() {
  const double u = 1.0 - uniform();  // (0, 1]
  const double angle = 2.0 * std::numbers::pi * uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(angle);
}

int64_t Stream::below(int64_t n) {
  // Lemire's rejection method (2019, "Fast Random Integer Generation in an Interval") on 64 bits.
  const auto range = static_cast<uint64_t>(n);
  const uint64_t threshold = (0 - range) % range;
  while (true) {
    const uint64_t high = next(), low = next();
    const auto product = static_cast<unsigned __int128>((high << 32) | low) * range;
    if (static_cast<uint64_t>(product) >= threshold) return static_cast<int64_t>(product >> 64);
  }
}

std::vector<int64_t> Stream::permutation(int64_t n) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n - 1; i > 0; --i) std::swap(order[i], order[below(i + 1)]);
  return order;
}

Tensor Rng::normal(at::IntArrayRef shape, Purpose purpose, uint64_t step, uint64_t index) const {
  Tensor out = at::empty(shape, at::kFloat);
  float* data = out.data_ptr<float>();
  const int64_t count = out.numel();
  const Address address = address_of(seed_, purpose, step, index);
  // One Philox block gives two pairs of uniforms, hence four normals.
  at::parallel_for(0, (count + 3) / 4, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const auto [low, high] = halves(static_cast<uint64_t>(block));
      const auto bits = philox(address.key, {low, high, address.counter[2], address.counter[3]});
      for (int pair = 0; pair < 2; ++pair) {
        const float u = (static_cast<float>(bits[2 * pair] >> 8) + 1.0f) * 0x1.0p-24f;  // (0, 1]
        const float turn = static_cast<float>(bits[2 * pair + 1] >> 8) * 0x1.0p-24f;
        const float radius = std::sqrt(-2.0f * std::log(u));
        const float angle = 2.0f * std::numbers::pi_v<float> * turn;
        const int64_t at = 4 * block + 2 * pair;
        if (at < count) data[at] = radius * std::cos(angle);
        if (at + 1 < count) data[at + 1] = radius * std::sin(angle);
      }
    }
  });
  return out;
}

uint64_t hash_name(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (const unsigned char c : name) hash = (hash ^ c) * 0x100000001B3ULL;
  return hash;
}

}  // namespace emulsion
