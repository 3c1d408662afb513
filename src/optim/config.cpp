#include "optim/config.h"

#include "optim/dadapt.h"
#include "optim/prodigy.h"
#include "optim/schedule_free.h"
#include "optim/simple.h"

namespace emulsion::optim {
namespace {

template <class Config>
std::unique_ptr<Optimizer> made(const Config& config, std::vector<Param> params) {
  return std::make_unique<Simple<Config>>(config, std::move(params));
}
std::unique_ptr<Optimizer> made(const AdamWConfig& config, std::vector<Param> params) {
  return std::make_unique<AdamW>(config, std::move(params));
}
std::unique_ptr<Optimizer> made(const AdamW8bitConfig& config, std::vector<Param> params) {
  const AdamWConfig same{.lr = config.lr,
                         .beta1 = config.beta1,
                         .beta2 = config.beta2,
                         .eps = config.eps,
                         .weight_decay = config.weight_decay,
                         .decay_norms_and_biases = config.decay_norms_and_biases};
  return std::make_unique<AdamW>(same, std::move(params), config.least_size);
}
std::unique_ptr<Optimizer> made(const ProdigyConfig& config, std::vector<Param> params) {
  return std::make_unique<Prodigy>(config, std::move(params));
}
std::unique_ptr<Optimizer> made(const ScheduleFreeConfig& config, std::vector<Param> params) {
  return std::make_unique<ScheduleFree>(config, std::move(params));
}
std::unique_ptr<Optimizer> made(const DAdaptAdamConfig& config, std::vector<Param> params) {
  return std::make_unique<DAdaptAdam>(config, std::move(params));
}

}  // namespace

double learning_rate(const OptimizerConfig& config) {
  return std::visit([](const auto& held) { return held.lr; }, config);
}

double state_bytes(const OptimizerConfig& config) {
  return std::visit([](const auto& held) { return held.state_bytes(); }, config);
}

bool decays_norms_and_biases(const OptimizerConfig& config) {
  return std::visit([](const auto& held) { return held.decay_norms_and_biases; }, config);
}

bool takes_parts(const OptimizerConfig& config) {
  return !std::holds_alternative<ProdigyConfig>(config) && !std::holds_alternative<DAdaptAdamConfig>(config) &&
         !std::holds_alternative<ScheduleFreeConfig>(config);
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config, std::vector<Param> params) {
  return std::visit([&](const auto& held) { return made(held, std::move(params)); }, config);
}

}  // namespace emulsion::optim
