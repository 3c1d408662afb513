#include "nn/init.h"

#include <cmath>

#include "core/error.h"
#include "nn/pattern.h"

namespace emulsion::nn {
namespace {

int64_t fan_in(at::IntArrayRef shape) {
  return shape.size() < 2 ? 1 : c10::multiply_integers(shape.begin() + 1, shape.end());
}

Tensor uniform(at::IntArrayRef shape, double bound, const Rng& rng, uint64_t address) {
  Tensor out = at::empty(shape, at::kFloat);
  Stream stream = rng.stream(Purpose::init, address);
  float* data = out.data_ptr<float>();
  for (int64_t i = 0; i < out.numel(); ++i) {
    data[i] = static_cast<float>((2 * stream.uniform() - 1) * bound);
  }
  return out;
}

}  // namespace

Tensor draw(InitKind kind, double gain, at::IntArrayRef shape, const Rng& rng, const std::string& name) {
  const uint64_t address = hash_name(name);
  const double root = std::sqrt(static_cast<double>(fan_in(shape)));
  switch (kind) {
    case InitKind::zeros: return at::zeros(shape, at::kFloat);
    case InitKind::ones: return at::ones(shape, at::kFloat);
    case InitKind::normal: return rng.normal(shape, Purpose::init, address) * gain;
    case InitKind::normal_fan_in: return rng.normal(shape, Purpose::init, address) * (gain / root);
    case InitKind::uniform_fan_in: return uniform(shape, gain / root, rng, address);
  }
  throw Error(ErrorCode::internal, "init kind");
}

void initialise(ParamStore& store, const Rng& rng, const std::string& component,
                const std::vector<InitRule>& rules) {
  for (Param& param : store.params()) {
    const InitRule* chosen = nullptr;
    for (const InitRule& rule : rules) {
      if (glob_match(rule.pattern, param.path)) chosen = &rule;
    }
    EMULSION_CHECK(chosen, internal, "[init] no rule for '{}.{}'", component, param.path);
    store.assign(param, draw(chosen->kind, chosen->gain, param.shape, rng, component + "." + param.path));
  }
}

}  // namespace emulsion::nn
