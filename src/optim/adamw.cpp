#include "optim/adamw.h"

#include <cmath>

#include "core/error.h"
#include "optim/chunks.h"
#include "optim/kernel_loops.h"
#include "optim/state_reader.h"

namespace emulsion::optim {
namespace {

/// Pieces of this many elements stay in the nearest cache while several loops pass over them.
constexpr int64_t kBlockSize = 2048;

/// What the loops need to know of one tensor.
struct Job {
  kernels::AdamWFactors factors;
  Tensor grad;  // holds the memory
  const float* grad_float = nullptr;
  const uint16_t* grad_half = nullptr;
  float* master = nullptr;  // none: `copy`, with `low` or rounding at random, is the weight
  float *moment1, *moment2;
  uint16_t *copy = nullptr, *low = nullptr;
  bool rounds = false;
  uint32_t rounding = 0;
  float* ema = nullptr;
  float ema_weight = 0;
};

kernels::AdamWFactors factors_of(const AdamWConfig& config, const Param& param, int64_t steps,
                                 double lr, double grad_scale) {
  const double rate = lr * param.lr_scale;
  const double decay = param.decays ? config.weight_decay : 0;
  const auto t = static_cast<double>(steps);
  return {.grad_scale = static_cast<float>(grad_scale),
          .keep = static_cast<float>(1 - rate * decay),
          .beta1 = static_cast<float>(config.beta1),
          .one_minus_beta1 = static_cast<float>(1 - config.beta1),
          .beta2 = static_cast<float>(config.beta2),
          .one_minus_beta2 = static_cast<float>(1 - config.beta2),
          .step_size = static_cast<float>(rate / (1 - std::pow(config.beta1, t))),
          .root2 = static_cast<float>(std::sqrt(1 - std::pow(config.beta2, t))),
          .eps = static_cast<float>(config.eps)};
}

/// The gradient in the weight's storage order.
Tensor aligned(const Tensor& grad, const Param& param) {
  const Tensor& weight = held(param);
  EMULSION_CHECK(grad.sizes() == weight.sizes(), shape, "[optimizer] {}: expected a gradient [{}], got [{}]", param.name,
                 fmt::join(weight.sizes(), ","), fmt::join(grad.sizes(), ","));
  const bool readable = grad.scalar_type() == at::kFloat || grad.scalar_type() == at::kBFloat16;
  if (readable && grad.strides() == weight.strides()) return grad;
  const auto dtype = readable ? grad.scalar_type() : at::kFloat;
  return at::empty_strided(weight.sizes(), weight.strides(), weight.options().dtype(dtype)).copy_(grad);
}

void set_grad(Job& job, Tensor grad) {
  job.grad = std::move(grad);
  if (job.grad.scalar_type() == at::kFloat) {
    job.grad_float = job.grad.const_data_ptr<float>();
  } else {
    job.grad_half = static_cast<const uint16_t*>(job.grad.const_data_ptr());
  }
}

/// As weight_of().
void read_weight(const Job& job, int64_t at, float* weight, int64_t n) {
  if (job.low != nullptr) return kernels::join(job.copy + at, job.low + at, weight, n);
  kernels::from_bfloat16(job.copy + at, weight, n);
}

/// As set_weight().
void write_weight(const Job& job, int64_t at, const float* weight, int64_t n) {
  if (job.low != nullptr) return kernels::split(weight, job.copy + at, job.low + at, n);
  if (job.rounds) return kernels::to_bfloat16_at_random(weight, job.copy + at, job.rounding, at, n);
  kernels::to_bfloat16(weight, job.copy + at, n);
}

void run_block(const Job& job, int64_t at, int64_t n) {
  float converted[kBlockSize], borrowed[kBlockSize];
  if (job.grad_half != nullptr) kernels::from_bfloat16(job.grad_half + at, converted, n);
  const float* grad = job.grad_half != nullptr ? converted : job.grad_float + at;
  float* const weight = job.master != nullptr ? job.master + at : borrowed;
  if (job.master == nullptr) read_weight(job, at, weight, n);
  kernels::adamw(job.factors, grad, weight, job.moment1 + at, job.moment2 + at, n);
  if (job.copy != nullptr) write_weight(job, at, weight, n);
  if (job.ema != nullptr) kernels::lerp(weight, job.ema + at, job.ema_weight, n);
}

}  // namespace

AdamW::AdamW(const AdamWConfig& config, std::vector<Param> params)
    : Optimizer(std::move(params)), config_(config) {
  const at::NoGradGuard no_grad;
  for (const Param& param : params_) {
    const Tensor zeros = zeros_for(param);
    slots_.push_back({zeros, zeros.clone(), 0});
  }
}

void AdamW::step(double lr, double grad_scale, double ema_decay) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < params_.size(); ++i) {
    if (params_[i].grad.defined()) ++slots_[i].steps;
  }
  step_on_cpu(lr, grad_scale, ema_decay);
  for (size_t i = 0; i < params_.size(); ++i) {
    if (params_[i].grad.defined() && !held(params_[i]).is_cpu()) {
      step_with_aten(i, lr, grad_scale, ema_decay);
    }
  }
}

void AdamW::step_on_cpu(double lr, double grad_scale, double ema_decay) {
  std::vector<Job> jobs;
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < params_.size(); ++i) {
    const Param& param = params_[i];
    const Slot& slot = slots_[i];
    if (!param.grad.defined() || !held(param).is_cpu()) continue;
    Job job;
    job.factors = factors_of(config_, param, slot.steps, lr, grad_scale);
    set_grad(job, aligned(param.grad, param));
    if (param.master.defined()) job.master = param.master.mutable_data_ptr<float>();
    job.moment1 = slot.moment1.mutable_data_ptr<float>();
    job.moment2 = slot.moment2.mutable_data_ptr<float>();
    if (param.copy.defined()) job.copy = static_cast<uint16_t*>(param.copy.mutable_data_ptr());
    if (param.low.defined()) job.low = static_cast<uint16_t*>(param.low.mutable_data_ptr());
    job.rounds = param.rounds;
    job.rounding = param.rounding;
    if (param.ema.defined()) job.ema = param.ema.mutable_data_ptr<float>();
    job.ema_weight = static_cast<float>(1 - ema_decay);
    jobs.push_back(std::move(job));
    sizes.push_back(held(param).numel());
  }
  const std::vector<Chunk> chunks = chunks_of(sizes);
  for_each_chunk(static_cast<int64_t>(chunks.size()), [&](int64_t c) {
    const Chunk& chunk = chunks[c];
    for (int64_t at = chunk.begin; at < chunk.end; at += kBlockSize) {
      run_block(jobs[chunk.tensor], at, std::min(kBlockSize, chunk.end - at));
    }
  });
}

/// The same step in plain tensor operations, for other devices.
void AdamW::step_with_aten(size_t i, double lr, double grad_scale, double ema_decay) {
  Param& param = params_[i];
  Slot& slot = slots_[i];
  const BorrowedMaster master(param);
  const kernels::AdamWFactors f = factors_of(config_, param, slot.steps, lr, grad_scale);
  const Tensor grad = param.grad.to(at::kFloat) * grad_scale;
  slot.moment1.lerp_(grad, 1 - config_.beta1);
  slot.moment2.mul_(config_.beta2).addcmul_(grad, grad, 1 - config_.beta2);
  const Tensor denominator = (slot.moment2.sqrt() / f.root2).add_(config_.eps);
  param.master.mul_(f.keep).addcdiv_(slot.moment1, denominator, -f.step_size);
  follow(param, ema_decay);
}

NamedTensors AdamW::state() const {
  NamedTensors state;
  Tensor steps = at::empty({static_cast<int64_t>(slots_.size())}, at::kLong);
  for (size_t i = 0; i < slots_.size(); ++i) {
    state.emplace_back(params_[i].name + ".exp_avg", slots_[i].moment1);
    state.emplace_back(params_[i].name + ".exp_avg_sq", slots_[i].moment2);
    steps.mutable_data_ptr<int64_t>()[i] = slots_[i].steps;
  }
  state.emplace_back("steps", steps);
  return state;
}

void AdamW::load_state(const NamedTensors& state) {
  const StateReader reader(state, "optimizer state");
  const Tensor steps = reader.get("steps", {static_cast<int64_t>(slots_.size())})
                           .to(at::kCPU, at::kLong)
                           .contiguous();
  for (size_t i = 0; i < slots_.size(); ++i) {
    const at::IntArrayRef shape = held(params_[i]).sizes();
    slots_[i].moment1.copy_(reader.get(params_[i].name + ".exp_avg", shape));
    slots_[i].moment2.copy_(reader.get(params_[i].name + ".exp_avg_sq", shape));
    slots_[i].steps = steps.const_data_ptr<int64_t>()[i];
  }
}

}  // namespace emulsion::optim
