#include <ATen/record_function.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "core/device.h"
#include "core/error.h"
#include "core/log.h"
#include "core/random.h"
#include "optim/clip.h"
#include "train/gradient_taker.h"
#include "train/methods.h"
#include "train/trainer.h"

namespace emulsion::train {
namespace {

const Tensor* find(const NamedTensors& state, const std::string& name) {
  for (const auto& [key, value] : state) {
    if (key == name) return &value;
  }
  return nullptr;
}

NamedTensors with_prefix(const NamedTensors& state, const std::string& prefix) {
  NamedTensors chosen;
  for (const auto& [key, value] : state) {
    if (key.starts_with(prefix)) chosen.emplace_back(key.substr(prefix.size()), value);
  }
  return chosen;
}

// Networks up to here. Larger ones keep every thread busy with one operation, and lanes would each read all the weights.
constexpr int64_t kLaneWeights = 64'000'000;

std::unique_ptr<Lanes> lanes_for(const RunConfig& config, const Method& method, const std::vector<Trainable>& trainables) {
  const bool on_cpu = std::all_of(trainables.begin(), trainables.end(), [](const auto& t) { return t.place->is_cpu(); });
  const int64_t threads = at::get_num_threads(), wanted = config.lanes > 0 ? config.lanes : threads;
  const bool whole = config.gradient_checkpointing == GradientCheckpointing::always || config.fused_backward_pass;
  if (whole) return nullptr;  // both are about backward()
  const bool fits = config.lanes > 0 || (config.batch_size % threads == 0 && method.weight_count() <= kLaneWeights);
  return wanted > 1 && fits && on_cpu ? std::make_unique<Lanes>(wanted) : nullptr;
}

// Names in a checkpoint.
const std::string kWeight = "weight/", kLow = "weight_low/";

constexpr double kUsableMemory = 0.95;  // blocks of the allocator do not fit into each other's places without loss

// Gradients of fused_backward_pass that are used together: few, but enough to share between the threads.
constexpr size_t kBytesAtOnce = size_t{64} << 20;

std::string plan_text(const nn::Recomputation& plan, double limit, double budget) {
  int64_t repeated = 0, saved = 0;
  double seconds = 0;
  for (size_t i = 0; i < plan.costs().size(); ++i) {
    if (plan.keeps(i) || plan.costs()[i].frozen) continue;
    ++repeated;
    saved += plan.costs()[i].bytes;
    seconds += plan.costs()[i].seconds;
  }
  const std::string short_of =
      budget < 0 ? fmt::format("; even so {:.1f} GB are missing, lower batch_size or data.resolution", -budget / 1e9) : "";
  return fmt::format("gradient checkpointing: {} of {} blocks are computed again, which saves {:.2f} GB and costs {:.2g} s a step; "
                     "tensors may take {:.2f} GB{}",
                     repeated, plan.costs().size(), static_cast<double>(saved) / 1e9, seconds, limit / 1e9, short_of);
}

/// The loss of a batch from those of its equal parts.
Loss joined(const std::vector<Loss>& parts) {
  std::vector<Tensor> values, per_sample, predictions;
  for (const Loss& part : parts) {
    values.push_back(part.value.detach());
    per_sample.push_back(part.per_sample);
    if (part.prediction.defined()) predictions.push_back(part.prediction.detach());
  }
  return {at::stack(values).mean(), at::cat(per_sample), predictions.empty() ? Tensor() : at::cat(predictions)};
}

void add_gradient(Tensor& sum, const Tensor& gradient) {
  if (!gradient.defined()) return;
  sum.defined() ? void(sum.add_(gradient)) : void(sum = gradient);
}

std::vector<Tensor*> places(const std::vector<Trainable>& trainables) {
  std::vector<Tensor*> all;
  for (const Trainable& trainable : trainables) all.push_back(trainable.place);
  return all;
}

[[noreturn]] void throw_not_finite(const std::vector<optim::Param>& params, int64_t step, bool partly) {
  const std::string remedy = partly ? "part of the weights are those after the step: go on from the last checkpoint, at a lower "
                                      "optimizer.lr"
                                    : "the weights are those before the step. Lower optimizer.lr or raise schedule.warmup_steps";
  for (const optim::Param& param : params) {
    if (!param.grad.defined() || param.grad.isfinite().all().item<bool>()) continue;
    throw Error(ErrorCode::numeric,
                fmt::format("[train] step {}: the gradient of '{}' is not finite; {}", step + 1, param.name, remedy));
  }
  throw Error(ErrorCode::numeric, fmt::format("[train] step {}: the gradients overflow together; {}", step + 1, remedy));
}

}  // namespace

Learner::Learner(const RunConfig& config, Method& method) : config_(config), trainables_(method.trainables()) {
  std::vector<optim::Param> params;
  for (const Trainable& trainable : trainables_) {
    optim::Param param;
    param.name = trainable.name;
    param.lr_scale = trainable.lr;
    param.decays = trainable.decays || optim::decays_norms_and_biases(config.optimizer);
    const Tensor weight = trainable.place->detach();  // shares memory: the update reaches the model at once
    (weight.scalar_type() == at::kFloat ? param.master : param.copy) = weight;
    if (param.copy.defined()) {
      param.rounds = config.stochastic_rounding;
      if (!param.rounds) param.low = at::zeros_like(weight, weight.options().dtype(at::kShort));
    }
    params.push_back(std::move(param));
  }
  lanes_ = lanes_for(config, method, trainables_);
  const bool large = method.weight_count() > kLaneWeights;
  const auto wish = config.gradient_checkpointing;
  if (wish == GradientCheckpointing::always || (wish == GradientCheckpointing::automatic && large && !lanes_)) {
    recomputation_ = std::make_unique<nn::Recomputation>();
  }
  if (config.ema.enabled) ema_ = std::make_unique<optim::Ema>(config.ema, params);
  optimizer_ = optim::make_optimizer(config.optimizer, std::move(params));
  EMULSION_CHECK(!(ema_ && optimizer_->averages()), config,
                 "[train] ema.enabled: expected false with this optimizer, got true; it averages the weights by itself");
}

void Learner::begin(int64_t step, double rate) {
  step_ = step;
  lr_ = rate * optim::learning_rate(config_.optimizer) * optim::multiplier(config_.schedule, step, config_.steps);
  taken_squares_ = 0;
  for (optim::Param& param : optimizer_->params()) {
    param.rounding =
        Stream(static_cast<uint64_t>(config_.seed), Purpose::rounding, static_cast<uint64_t>(step), hash_name(param.name)).next();
  }
}

Loss Learner::backward(int64_t batch, double scale, const PartLoss& part) {
  if (!lanes_ || batch % lanes_->count() != 0) {
    const nn::Recomputation::Scope blocks(recomputation_.get());
    Loss loss = part(0, batch);
    std::optional<GradientTaker> taker;
    if (config_.fused_backward_pass) {
      if (!loss.value.isfinite().item<bool>()) return loss;
      taker.emplace(places(trainables_), [&](size_t i, const Tensor& gradient) { take(i, gradient); });
    }
    (loss.value * scale).backward();
    return loss;
  }
  const int64_t count = batch / lanes_->count();
  torch::autograd::variable_list leaves;
  for (const Trainable& trainable : trainables_) leaves.push_back(*trainable.place);
  std::vector<Loss> losses(static_cast<size_t>(lanes_->count()));
  std::vector<torch::autograd::variable_list> gradients(losses.size());
  lanes_->run([&](int64_t lane) {
    Loss& loss = losses[static_cast<size_t>(lane)];
    loss = part(lane * count, count);
    gradients[static_cast<size_t>(lane)] =
        torch::autograd::grad({loss.value * (scale / static_cast<double>(lanes_->count()))}, leaves, {}, std::nullopt,
                              /*create_graph=*/false, /*allow_unused=*/true);
  });
  at::NoGradGuard no_grad;
  for (const auto& of_lane : gradients) {
    for (size_t i = 0; i < leaves.size(); ++i) add_gradient(leaves[i].mutable_grad(), of_lane[i]);
  }
  return joined(losses);
}

void Learner::take(size_t i, const Tensor& gradient) {
  if (!trainables_[i].trains_at(step_)) return;
  optimizer_->params()[i].grad = gradient;
  taken_bytes_ += gradient.nbytes();
  if (taken_bytes_ < kBytesAtOnce) return;
  const double norm = use_gradients();
  taken_squares_ += norm * norm;
}

double Learner::use_gradients() {
  RECORD_USER_SCOPE("emulsion::optimizer");
  std::vector<Tensor> grads;
  for (const optim::Param& param : optimizer_->params()) grads.push_back(param.grad);
  const optim::Clip clip = optim::clip(grads, config_.clip, config_.clip_by);
  if (!std::isfinite(clip.norm)) throw_not_finite(optimizer_->params(), step_, config_.fused_backward_pass);
  optimizer_->step(lr_, clip.scale, ema_ ? ema_->decay_at(ema_->updates() + 1) : 0.0);
  for (optim::Param& param : optimizer_->params()) param.grad = Tensor();
  taken_bytes_ = 0;
  return clip.norm;
}

StepStats Learner::update() {
  auto& params = optimizer_->params();
  for (size_t i = 0; i < params.size(); ++i) {
    Tensor& gradient = trainables_[i].place->mutable_grad();
    if (gradient.defined() && trainables_[i].trains_at(step_)) params[i].grad = gradient;
  }
  const double norm = use_gradients();
  forget_gradients();
  if (ema_) ema_->next_decay();
  plan_recomputation();
  StepStats stats;
  stats.step = step_ + 1;
  stats.grad_norm = std::sqrt(taken_squares_ + norm * norm);
  stats.lr = lr_;
  return stats;
}

void Learner::forget_gradients() {
  for (const Trainable& trainable : trainables_) trainable.place->mutable_grad() = Tensor();
  for (optim::Param& param : optimizer_->params()) param.grad = Tensor();
  taken_bytes_ = 0;
}

/// After the first step, whose peak memory is that of keeping nothing.
void Learner::plan_recomputation() {
  if (!recomputation_ || config_.gradient_checkpointing == GradientCheckpointing::always) return;
  if (recomputation_->outgrown()) {
    planned_ = false;
    return recomputation_->forget();
  }
  if (std::exchange(planned_, true)) return;
  const auto& costs = recomputation_->costs();
  const at::Device device = trainables_.front().place->device();
  const auto limit = static_cast<double>(tensor_bytes_limit(device, static_cast<int64_t>(config_.memory_limit * 1e9)));
  const double budget = kUsableMemory * limit - static_cast<double>(tensor_bytes(device).peak);
  recomputation_->keep(nn::blocks_to_keep(costs, static_cast<int64_t>(budget)));
  log::info("{}", plan_text(*recomputation_, limit, budget));
}

NamedTensors Learner::state() const {
  NamedTensors state;
  for (const optim::Param& param : optimizer_->params()) {
    state.emplace_back(kWeight + param.name, optim::held(param));
    if (param.low.defined()) state.emplace_back(kLow + param.name, param.low);
  }
  for (const auto& [name, value] : optimizer_->state()) state.emplace_back("optimizer/" + name, value);
  if (ema_) {
    for (const auto& [name, value] : ema_->state()) state.emplace_back("ema/" + name, value);
  }
  return state;
}

void Learner::load_state(const NamedTensors& state) {
  at::NoGradGuard no_grad;
  for (optim::Param& param : optimizer_->params()) {
    const auto load = [&](const std::string& key, const Tensor& into) {
      const Tensor* saved = find(state, key);
      EMULSION_CHECK(saved && saved->sizes() == into.sizes() && saved->scalar_type() == into.scalar_type(), format,
                     "[checkpoint] '{}' is missing or has another shape or type; the checkpoint is of another run", param.name);
      into.copy_(*saved);
    };
    load(kWeight + param.name, optim::held(param));
    if (param.low.defined()) load(kLow + param.name, param.low);
  }
  optimizer_->load_state(with_prefix(state, "optimizer/"));
  if (ema_) ema_->load_state(with_prefix(state, "ema/"));
}

std::unique_ptr<optim::EmaSwap> Learner::averaged() const {
  return ema_ || optimizer_->averages() ? std::make_unique<optim::EmaSwap>(optimizer_->params()) : nullptr;
}

void Learner::settle() {
  const auto& params = optimizer_->params();
  for (size_t i = 0; i < params.size(); ++i) {
    const Tensor weight = params[i].ema.defined() ? params[i].ema : optim::weight_of(params[i]);
    *trainables_[i].place = weight.detach().clone(at::MemoryFormat::Preserve);
  }
}

int64_t Learner::numel() const {
  int64_t total = 0;
  for (const optim::Param& param : optimizer_->params()) total += optim::held(param).numel();
  return total;
}

}  // namespace emulsion::train
