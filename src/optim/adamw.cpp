#include "optim/adamw.h"

#include <cmath>

#include "core/error.h"
#include "optim/chunks.h"
#include "optim/kernel_loops.h"
#include "optim/state_reader.h"

namespace emulsion::optim {
namespace {

/// Pieces of this many elements stay in the nearest cache while several loops pass over them.
constexpr int64_t kBlockSize = 1024;
static_assert(kBlockSize % kernels::kEightBitBlock == 0 && kChunkSize % kBlockSize == 0);

/// A moment's memory: float32, or codes and their scales.
struct Moments {
  Moments(const Moment& moment, bool with_sign) : table(&eight_bit_table(with_sign)) {
    if (moment.eight_bit()) {
      codes = moment.values.mutable_data_ptr<uint8_t>();
      scales = moment.scales.mutable_data_ptr<float>();
    } else {
      values = moment.values.mutable_data_ptr<float>();
    }
  }

  /// n numbers from `at` on: their place, or `room` with what the codes stand for.
  float* read(int64_t at, float* room, int64_t n) const {
    if (values != nullptr) return values + at;
    each_block(at, n, [&](int64_t from, int64_t many, float& scale) {
      kernels::from_eight_bit(*table, codes + at + from, scale, room + from, many);
    });
    return room;
  }
  void write(int64_t at, const float* room, int64_t n) const {
    if (values != nullptr) return;
    each_block(at, n, [&](int64_t from, int64_t many, float& scale) {
      scale = kernels::to_eight_bit(*table, room + from, codes + at + from, many);
    });
  }

 private:
  template <class F>
  void each_block(int64_t at, int64_t n, const F& f) const {
    constexpr int64_t kBlock = kernels::kEightBitBlock;
    for (int64_t from = 0; from < n; from += kBlock) f(from, std::min(kBlock, n - from), scales[(at + from) / kBlock]);
  }

  const kernels::EightBitTable* table;
  float *values = nullptr, *scales = nullptr;
  uint8_t* codes = nullptr;
};

/// What the loops need to know of one tensor.
struct Job {
  Job(const Moment& first, const Moment& second) : moment1(first, true), moment2(second, false) {}
  kernels::AdamWFactors factors = {};
  Tensor grad;  // holds the memory
  const float* grad_float = nullptr;
  const uint16_t* grad_half = nullptr;
  float* master = nullptr;  // none: `copy`, with `low` or rounding at random, is the weight
  Moments moment1, moment2;
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
  float converted[kBlockSize], borrowed[kBlockSize], first[kBlockSize], second[kBlockSize];
  if (job.grad_half != nullptr) kernels::from_bfloat16(job.grad_half + at, converted, n);
  const float* grad = job.grad_half != nullptr ? converted : job.grad_float + at;
  float* const weight = job.master != nullptr ? job.master + at : borrowed;
  if (job.master == nullptr) read_weight(job, at, weight, n);
  float *const moment1 = job.moment1.read(at, first, n), *const moment2 = job.moment2.read(at, second, n);
  kernels::adamw(job.factors, grad, weight, moment1, moment2, n);
  job.moment1.write(at, moment1, n);
  job.moment2.write(at, moment2, n);
  if (job.copy != nullptr) write_weight(job, at, weight, n);
  if (job.ema != nullptr) kernels::lerp(weight, job.ema + at, job.ema_weight, n);
}

/// The moment in float32, with the weight's strides.
Tensor read(const Moment& moment, const Tensor& weight, bool with_sign) {
  if (!moment.eight_bit()) return moment.values;
  return read_eight_bit(moment, weight.numel(), with_sign).as_strided(weight.sizes(), weight.strides());
}

void write(const Moment& moment, const Tensor& values, bool with_sign) {
  if (moment.eight_bit()) write_eight_bit(moment, in_memory(values), with_sign);
}

/// Both by their names in a state, after the parameter's.
NamedTensors tensors_of(const Moment& moment1, const Moment& moment2) {
  NamedTensors all = {{".exp_avg", moment1.values}, {".exp_avg_sq", moment2.values}};
  if (moment1.eight_bit()) all.insert(all.end(), {{".exp_avg.scale", moment1.scales}, {".exp_avg_sq.scale", moment2.scales}});
  return all;
}

}  // namespace

AdamW::AdamW(const AdamWConfig& config, std::vector<Param> params, int64_t eight_bit_from)
    : Optimizer(std::move(params)), config_(config) {
  const at::NoGradGuard no_grad;
  for (const Param& param : params_) {
    const int64_t n = held(param).numel();
    const auto zeros = [&] { return n < eight_bit_from ? Moment{zeros_for(param), {}} : eight_bit_zeros(n, held(param).device()); };
    slots_.push_back({zeros(), zeros(), 0});
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
    Job job(slot.moment1, slot.moment2);
    job.factors = factors_of(config_, param, slot.steps, lr, grad_scale);
    set_grad(job, aligned_grad(param));
    if (param.master.defined()) job.master = param.master.mutable_data_ptr<float>();
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
  const Tensor average = read(slot.moment1, param.master, true), squares = read(slot.moment2, param.master, false);
  average.lerp_(grad, 1 - config_.beta1);
  squares.mul_(config_.beta2).addcmul_(grad, grad, 1 - config_.beta2);
  const Tensor denominator = (squares.sqrt() / f.root2).add_(config_.eps);
  param.master.mul_(f.keep).addcdiv_(average, denominator, -f.step_size);
  write(slot.moment1, average, true);
  write(slot.moment2, squares, false);
  follow(param, ema_decay);
}

NamedTensors AdamW::state() const {
  NamedTensors state;
  Tensor steps = at::empty({static_cast<int64_t>(slots_.size())}, at::kLong);
  for (size_t i = 0; i < slots_.size(); ++i) {
    for (const auto& [name, tensor] : tensors_of(slots_[i].moment1, slots_[i].moment2)) {
      state.emplace_back(params_[i].name + name, tensor);
    }
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
    for (auto& [name, tensor] : tensors_of(slots_[i].moment1, slots_[i].moment2)) {
      tensor.copy_(reader.get(params_[i].name + name, tensor.sizes()));
    }
    slots_[i].steps = steps.const_data_ptr<int64_t>()[i];
  }
}

}  // namespace emulsion::optim
