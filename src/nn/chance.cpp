#include "nn/chance.h"

#include <cmath>
#include <utility>

namespace emulsion::nn {
namespace {

thread_local std::optional<Chance> current;

}  // namespace

const Chance* chance() { return current ? &*current : nullptr; }
void set_chance(Chance chance) { current = std::move(chance); }

WithoutChance::WithoutChance() : before_(std::exchange(current, std::nullopt)) {}
WithoutChance::~WithoutChance() { current = std::move(before_); }

Tensor dropout_mask(const Tensor& x, double p, uint64_t layer, const Chance& chance, std::optional<int64_t> channels) {
  std::vector<int64_t> one(x.sizes().begin() + 1, x.sizes().end());
  if (channels) {
    for (size_t i = 0; i < one.size(); ++i) {
      if (static_cast<int64_t>(i) + 1 != *channels) one[i] = 1;
    }
  }
  // A standard normal number lies below this with probability p.
  const double bound = std::sqrt(2.0) * at::erfinv(at::scalar_tensor(2 * p - 1, at::kDouble)).item<double>();
  const auto count = static_cast<int64_t>(chance.draws.size());
  std::vector<Tensor> masks;
  for (int64_t i = 0; i < x.size(0); ++i) {
    // More rows than samples: a text in several chunks.
    const auto draw = static_cast<uint64_t>(chance.draws[static_cast<size_t>(i % count)]);
    const Tensor numbers = chance.rng.normal(one, Purpose::dropout, draw, layer + static_cast<uint64_t>(i / count));
    masks.push_back(numbers.ge(bound));
  }
  return at::stack(masks).to(x.options()) / (1 - p);
}

bool is_left_out(double p, uint64_t layer, const Chance& chance) {
  return chance.rng.stream(Purpose::dropout, chance.pass, ~layer).uniform() < p;
}

}  // namespace emulsion::nn
