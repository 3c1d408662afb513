#include <ATen/record_function.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/device.h"
#include "core/error.h"
#include "core/log.h"
#include "optim/clip.h"
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
  if (config.gradient_checkpointing == GradientCheckpointing::always) return nullptr;  // a plan is for backward()
  const bool fits = config.lanes > 0 || (config.batch_size % threads == 0 && method.weight_count() <= kLaneWeights);
  return wanted > 1 && fits && on_cpu ? std::make_unique<Lanes>(wanted) : nullptr;
}

constexpr double kUsableMemory = 0.95;  // blocks of the allocator do not fit into each other's places without loss

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

}  // namespace

Learner::Learner(const RunConfig& config, Method& method) : config_(config), trainables_(method.trainables()) {
  std::vector<optim::Param> params;
  for (const Trainable& trainable : trainables_) {
    optim::Param param;
    param.name = trainable.name;
    param.lr_scale = trainable.lr;
    param.decays = trainable.decays || optim::decays_norms_and_biases(config.optimizer);
    if (trainable.place->scalar_type() == at::kFloat) {
      param.master = trainable.place->detach();  // shares memory: the update reaches the model at once
    } else {
      param.master = trainable.place->detach().to(at::kFloat);
      param.copy = trainable.place->detach();
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

Loss Learner::backward(int64_t batch, double scale, const PartLoss& part) {
  if (!lanes_ || batch % lanes_->count() != 0) {
    const nn::Recomputation::Scope blocks(recomputation_.get());
    Loss loss = part(0, batch);
    (loss.value * scale).backward();
    return loss;
  }
  const int64_t count = batch / lanes_->count();
  torch::autograd::variable_list places;
  for (const Trainable& trainable : trainables_) places.push_back(*trainable.place);
  std::vector<Loss> losses(static_cast<size_t>(lanes_->count()));
  std::vector<torch::autograd::variable_list> gradients(losses.size());
  lanes_->run([&](int64_t lane) {
    Loss& loss = losses[static_cast<size_t>(lane)];
    loss = part(lane * count, count);
    gradients[static_cast<size_t>(lane)] =
        torch::autograd::grad({loss.value * (scale / static_cast<double>(lanes_->count()))}, places, {}, std::nullopt,
                              /*create_graph=*/false, /*allow_unused=*/true);
  });
  at::NoGradGuard no_grad;
  for (const auto& of_lane : gradients) {
    for (size_t i = 0; i < places.size(); ++i) add_gradient(places[i].mutable_grad(), of_lane[i]);
  }
  return joined(losses);
}

StepStats Learner::update(int64_t step, double rate) {
  RECORD_USER_SCOPE("emulsion::optimizer");
  std::vector<Tensor> grads;
  auto& params = optimizer_->params();
  for (size_t i = 0; i < params.size(); ++i) {
    if (trainables_[i].trains_at(step)) params[i].grad = trainables_[i].place->grad();
    grads.push_back(params[i].grad);
  }
  const optim::Clip clip = optim::clip(grads, config_.clip, config_.clip_by);
  if (!std::isfinite(clip.norm)) {
    for (const optim::Param& param : params) {
      if (!param.grad.defined() || param.grad.isfinite().all().item<bool>()) continue;
      throw Error(ErrorCode::numeric, fmt::format("[train] step {}: the gradient of '{}' is not finite; the weights are "
                                                  "those before the step. Lower optimizer.lr or raise schedule.warmup_steps",
                                                  step + 1, param.name));
    }
    throw Error(ErrorCode::numeric, fmt::format("[train] step {}: the gradients overflow together; lower optimizer.lr", step + 1));
  }
  const double lr = rate * optim::learning_rate(config_.optimizer) * optim::multiplier(config_.schedule, step, config_.steps);
  optimizer_->step(lr, clip.scale, ema_ ? ema_->next_decay() : 0.0);
  forget_gradients();
  plan_recomputation();
  StepStats stats;
  stats.step = step + 1;
  stats.grad_norm = clip.norm;
  stats.lr = lr;
  return stats;
}

void Learner::forget_gradients() {
  for (const Trainable& trainable : trainables_) trainable.place->mutable_grad() = Tensor();
  for (optim::Param& param : optimizer_->params()) param.grad = Tensor();
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
  for (const optim::Param& param : optimizer_->params()) state.emplace_back("weight/" + param.name, param.master);
  for (const auto& [name, value] : optimizer_->state()) state.emplace_back("optimizer/" + name, value);
  if (ema_) {
    for (const auto& [name, value] : ema_->state()) state.emplace_back("ema/" + name, value);
  }
  return state;
}

void Learner::load_state(const NamedTensors& state) {
  at::NoGradGuard no_grad;
  for (optim::Param& param : optimizer_->params()) {
    const Tensor* saved = find(state, "weight/" + param.name);
    EMULSION_CHECK(saved && saved->sizes() == param.master.sizes(), format,
                   "[checkpoint] '{}' is missing or has another shape; the checkpoint is of another run", param.name);
    param.master.copy_(*saved);
  }
  optim::refresh_copies(optimizer_->params());
  optimizer_->load_state(with_prefix(state, "optimizer/"));
  if (ema_) ema_->load_state(with_prefix(state, "ema/"));
}

std::unique_ptr<optim::EmaSwap> Learner::averaged() const {
  return ema_ || optimizer_->averages() ? std::make_unique<optim::EmaSwap>(optimizer_->params()) : nullptr;
}

void Learner::settle() {
  const auto& params = optimizer_->params();
  for (size_t i = 0; i < params.size(); ++i) {
    *trainables_[i].place = (params[i].ema.defined() ? params[i].ema : params[i].master).detach().clone(at::MemoryFormat::Preserve);
  }
}

int64_t Learner::numel() const {
  int64_t total = 0;
  for (const optim::Param& param : optimizer_->params()) total += param.master.numel();
  return total;
}

}  // namespace emulsion::train
