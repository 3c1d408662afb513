#include "optim/simple.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "optim/chunks.h"
#include "optim/state_reader.h"

namespace emulsion::optim {
namespace {

double root_mean_square(const Tensor& x) { return x.norm().item<double>() / std::sqrt(static_cast<double>(x.numel())); }

/// f(begin, end): parts of the first dimension, each of which stays in the cache through several operations.
template <class F>
void for_each_part(const Tensor& weight, const F& f) {
  const int64_t count = weight.dim() == 0 ? 1 : weight.size(0);
  const int64_t many = std::max<int64_t>(1, kChunkSize * count / std::max<int64_t>(1, weight.numel()));
  for (int64_t begin = 0; begin < count; begin += many) f(begin, std::min(begin + many, count));
}

/// Rows begin..end-1 of x; all of a single number.
Tensor part_of(const Tensor& x, int64_t begin, int64_t end) { return x.dim() == 0 ? x : x.slice(0, begin, end); }

/// Mean over a dimension; of the few columns of a kernel by whole additions, since a sum over memory in threes is slow.
Tensor mean_over(const Tensor& x, int64_t dim) {
  if (x.size(dim) > 4) return x.mean(dim);
  Tensor sum = x.select(dim, 0).clone();
  for (int64_t i = 1; i < x.size(dim); ++i) sum.add_(x.select(dim, i));
  return sum.div_(static_cast<double>(x.size(dim)));
}

/// The moving average of squares, which from two dimensions on is kept as rows and columns (Shazeer & Stern 2018, alg. 4).
class Squares {
 public:
  /// Moves it on by `squares(begin, end)`, parts of a tensor like the weight.
  template <class F>
  Squares(Slot& slot, const std::string& prefix, const Tensor& weight, double keep, const F& squares) : dims_(weight.dim()) {
    if (dims_ < 2) {
      root_ = slot.like(prefix + "exp_avg_sq", weight).mul_(keep).add_(squares(0, weight.numel()), 1 - keep).rsqrt();
      return;
    }
    const auto sizes = weight.sizes();
    std::vector<int64_t> of_columns(sizes.begin(), sizes.end() - 2);
    of_columns.push_back(sizes.back());
    Tensor rows = slot.get(prefix + "rows", weight, sizes.slice(0, sizes.size() - 1)).mul_(keep);
    Tensor columns = slot.get(prefix + "columns", weight, of_columns).mul_(keep);
    for_each_part(weight, [&](int64_t begin, int64_t end) {
      const Tensor part = squares(begin, end);
      rows.slice(0, begin, end).add_(mean_over(part, -1), 1 - keep);
      if (dims_ == 2) {
        columns.add_(part.sum(0), (1 - keep) / static_cast<double>(sizes[0]));
      } else {
        columns.slice(0, begin, end).add_(mean_over(part, -2), 1 - keep);
      }
    });
    rows_ = (rows / rows.mean(-1, true)).rsqrt_().unsqueeze(-1);
    columns_ = columns.rsqrt().unsqueeze(-2);
  }

  /// 1 / sqrt of what rows and columns stand for.
  Tensor inverse_root(int64_t begin, int64_t end) const {
    if (dims_ < 2) return part_of(root_, begin, end);
    return rows_.slice(0, begin, end) * (dims_ == 2 ? columns_ : columns_.slice(0, begin, end));
  }

 private:
  int64_t dims_;
  Tensor root_, rows_, columns_;
};

/// What the change, the gradient over the root of the squares, is divided by: its root mean square is `threshold` at most (Shazeer &
/// Stern 2018, alg. 5).
double clipping(const Squares& squares, const Tensor& grad, double threshold) {
  double sum = 0;
  for_each_part(grad, [&](int64_t begin, int64_t end) {
    const Tensor change = squares.inverse_root(begin, end).mul(part_of(grad, begin, end));
    sum += std::pow(change.norm().item<double>(), 2);
  });
  return std::max(1.0, std::sqrt(sum / static_cast<double>(grad.numel())) / threshold);
}

/// What Adam takes off the weight at a rate of 1, after both averages have moved. Operations in the order of torch.optim.AdamW.
template <class Config>
Tensor adam_step(const Config& config, Tensor& average, Tensor& squares, const Tensor& grad, int64_t steps) {
  const auto t = static_cast<double>(steps);
  average.lerp_(grad, 1 - config.beta1);
  squares.mul_(config.beta2).addcmul_(grad, grad, 1 - config.beta2);
  const Tensor denominator = (squares.sqrt() / std::sqrt(1 - std::pow(config.beta2, t))).add_(config.eps);
  return average.div(denominator).div_(1 - std::pow(config.beta1, t));
}

/// Towards the orthogonal matrix nearest to x: five-term Newton-Schulz iterations, y <- (a + b g + c g^2) y with g = y y', whose factors
/// end with singular values between about 0.7 and 1.2. In float32, where the author's code takes bfloat16.
/// All factors are polynomials of the first g and commute, so that a wide y need not be carried along: g <- p g p, and the factors'
/// product meets y once. That is 17 products of g's size in the place of 5 and 8 of y's size.
Tensor orthogonal(const Tensor& x, int64_t iterations) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315, kWide = 1.5;
  const bool tall = x.size(0) > x.size(1);
  Tensor y = tall ? x.t() : x;
  y = y / y.norm().clamp_min(1e-7);
  const auto factor_of = [&](const Tensor& gram) { return at::addmm(gram, gram, gram, kB, kC); };
  if (static_cast<double>(y.size(1)) < kWide * static_cast<double>(y.size(0))) {
    for (int64_t i = 0; i < iterations; ++i) y = at::addmm(y, factor_of(y.mm(y.t())), y, kA, 1);
  } else {
    Tensor gram = y.mm(y.t()), product = at::eye(y.size(0), y.options());
    for (int64_t i = 0; i < iterations; ++i) {
      const Tensor factor = factor_of(gram);
      factor.diagonal().add_(kA);
      product = i == 0 ? factor : factor.mm(product);
      if (i + 1 < iterations) gram = factor.mm(gram).mm(factor);
    }
    y = product.mm(y);
  }
  return (tall ? y.t() : y).contiguous();
}

/// Whether the formula treats each number by itself.
template <class Config>
inline constexpr bool kElementwise = false;
template <>
inline constexpr bool kElementwise<SgdConfig> = true;
template <>
inline constexpr bool kElementwise<LionConfig> = true;
template <>
inline constexpr bool kElementwise<AdanConfig> = true;

double adafactor_rate(const AdafactorConfig& config, const Slot& slot, double rate, const Tensor& weight) {
  if (config.relative_step) {
    const auto step = static_cast<double>(slot.steps);
    rate *= std::min(config.warmup_init ? 1e-6 * step : 1e-2, 1 / std::sqrt(step));
  }
  return config.scale_parameter ? rate * std::max(config.eps2, root_mean_square(weight)) : rate;
}

}  // namespace

Tensor& Slot::get(const std::string& name, const Tensor& weight, at::IntArrayRef shape) {
  Tensor& tensor = tensors[name];
  if (!tensor.defined()) tensor = at::zeros(shape, weight.options());
  return tensor;
}

Tensor& Slot::like(const std::string& name, const Tensor& weight) {
  Tensor& tensor = tensors[name];
  if (!tensor.defined()) tensor = at::zeros_like(weight);
  return tensor;
}

/// torch.optim.SGD: weight decay is part of the gradient; the first momentum is the first gradient.
template <>
void update(const SgdConfig& config, Param& param, const Tensor& grad, Slot& slot, double rate) {
  Tensor& weight = param.master;
  Tensor g = param.decays && config.weight_decay > 0 ? grad + config.weight_decay * weight : grad;
  if (config.momentum > 0) {
    Tensor& momentum = slot.like("momentum", weight);
    slot.steps == 1 ? momentum.copy_(g) : momentum.mul_(config.momentum).add_(g);
    g = config.nesterov ? g + config.momentum * momentum : momentum;
  }
  weight.sub_(g, rate);
}

/// Chen et al. 2023, alg. 2.
template <>
void update(const LionConfig& config, Param& param, const Tensor& grad, Slot& slot, double rate) {
  Tensor &weight = param.master, &average = slot.like("exp_avg", weight);
  if (param.decays) weight.mul_(1 - rate * config.weight_decay);
  weight.sub_((average * config.beta1).add_(grad, 1 - config.beta1).sign_(), rate);
  average.mul_(config.beta2).add_(grad, 1 - config.beta2);
}

/// In the order of transformers.optimization.Adafactor, for which a convolution's kernel is a stack of matrices [kh, kw].
template <>
void update(const AdafactorConfig& config, Param& param, const Tensor& grad, Slot& slot, double rate) {
  const Tensor& weight = param.master;
  rate = adafactor_rate(config, slot, rate, weight);
  const double keep = 1 - std::pow(static_cast<double>(slot.steps), -config.decay_rate);
  const Squares squares(slot, "", weight, keep, [&](int64_t begin, int64_t end) {
    return part_of(grad, begin, end).square().add_(config.eps1);
  });
  const double shorter = rate / clipping(squares, grad, config.clip_threshold);
  const Tensor average = config.beta1 > 0 ? slot.like("exp_avg", weight) : Tensor();
  const double decay = param.decays ? config.weight_decay * rate : 0;
  for_each_part(weight, [&](int64_t begin, int64_t end) {
    Tensor change = squares.inverse_root(begin, end).mul(part_of(grad, begin, end)).mul_(shorter);
    if (average.defined()) change = part_of(average, begin, end).mul_(config.beta1).add_(change, 1 - config.beta1);
    part_of(weight, begin, end).mul_(1 - decay).sub_(change);
  });
}

/// Luo et al. 2023, alg. 2, as came_pytorch has it: tensors of one dimension know no instability.
template <>
void update(const CameConfig& config, Param& param, const Tensor& grad, Slot& slot, double rate) {
  const Tensor &weight = param.master, &average = slot.like("exp_avg", weight);
  const Squares squares(slot, "", weight, config.beta2, [&](int64_t begin, int64_t end) {
    return part_of(grad, begin, end).square().add_(config.eps1);
  });
  const double clipped = clipping(squares, grad, config.clip_threshold);
  const auto change_of = [&](int64_t begin, int64_t end) {
    return squares.inverse_root(begin, end).mul(part_of(grad, begin, end)).div_(clipped);
  };
  const double decay = param.decays ? config.weight_decay * rate : 0;
  const auto take = [&](int64_t begin, int64_t end, const Tensor& step) {
    part_of(weight, begin, end).mul_(1 - decay).sub_(step, rate);
  };
  if (weight.dim() < 2) {
    average.mul_(config.beta1).add_(change_of(0, weight.numel()), 1 - config.beta1);
    return take(0, weight.numel(), average);
  }
  const Squares instability(slot, "residual_", weight, config.beta3, [&](int64_t begin, int64_t end) {
    const Tensor change = change_of(begin, end), mean = part_of(average, begin, end);
    mean.mul_(config.beta1).add_(change, 1 - config.beta1);
    return (change - mean).square_().add_(config.eps2);
  });
  for_each_part(weight, [&](int64_t begin, int64_t end) {
    take(begin, end, instability.inverse_root(begin, end).mul(part_of(average, begin, end)));
  });
}

/// Xie et al. 2022, alg. 1, with the corrections for a start at 0 of the authors' code.
template <>
void update(const AdanConfig& config, Param& param, const Tensor& grad, Slot& slot, double rate) {
  Tensor& weight = param.master;
  Tensor &average = slot.like("exp_avg", weight), &differences = slot.like("exp_avg_diff", weight);
  Tensor &squares = slot.like("exp_avg_sq", weight), &before = slot.like("before", weight);
  const Tensor difference = slot.steps == 1 ? at::zeros_like(grad) : grad - before;
  average.lerp_(grad, 1 - config.beta1);
  differences.lerp_(difference, 1 - config.beta2);
  const Tensor ahead = grad + config.beta2 * difference;
  squares.mul_(config.beta3).addcmul_(ahead, ahead, 1 - config.beta3);
  before.copy_(grad);

  const auto start = [&](double beta) { return 1 - std::pow(beta, static_cast<double>(slot.steps)); };
  const Tensor denominator = (squares.sqrt() / std::sqrt(start(config.beta3))).add_(config.eps);
  const double decay = param.decays ? config.weight_decay : 0;
  if (!config.proximal) weight.mul_(1 - rate * decay);
  weight.addcdiv_(average, denominator, -rate / start(config.beta1));
  weight.addcdiv_(differences, denominator, -rate * config.beta2 / start(config.beta2));
  if (config.proximal) weight.div_(1 + rate * decay);
}

/// Wortsman et al. 2023, alg. 2: betas that begin at 0 in the place of corrections, and steps shortened by AdaFactor's clipping.
template <>
void update(const StableAdamWConfig& config, Param& param, const Tensor& grad, Slot& slot, double rate) {
  Tensor& weight = param.master;
  Tensor &average = slot.like("exp_avg", weight), &squares = slot.like("exp_avg_sq", weight);
  const auto begun = [&](double beta) {
    const double power = std::pow(beta, static_cast<double>(slot.steps));
    return (power - beta) / (power - 1);
  };
  const double keep = begun(config.beta2);
  average.lerp_(grad, 1 - begun(config.beta1));
  squares.mul_(keep).addcmul_(grad, grad, 1 - keep);
  rate /= std::max(1.0, std::sqrt((grad.square() / squares.clamp_min(config.eps * config.eps)).mean().item<double>()));
  if (param.decays) weight.mul_(1 - rate * config.weight_decay);
  weight.addcdiv_(average, squares.sqrt().add_(config.eps), -rate);
}

/// Jordan et al. 2024, https://kellerjordan.github.io/posts/muon: a convolution is a matrix [out, in kh kw].
template <>
void update(const MuonConfig& config, Param& param, const Tensor& grad, Slot& slot, double rate) {
  Tensor& weight = param.master;
  const auto is_named = [&](const std::string& part) { return param.name.find(part) != std::string::npos; };
  if (weight.dim() < 2 || std::ranges::any_of(config.adamw_names, is_named)) {
    rate *= config.adamw_lr_factor;
    if (param.decays) weight.mul_(1 - rate * config.weight_decay);
    weight.sub_(adam_step(config, slot.like("exp_avg", weight), slot.like("exp_avg_sq", weight), grad, slot.steps), rate);
    return;
  }
  Tensor& momentum = slot.like("momentum", weight);
  momentum.lerp_(grad, 1 - config.momentum);
  const Tensor wish = config.nesterov ? grad.lerp(momentum, config.momentum) : momentum;
  const Tensor change = orthogonal(wish.flatten(1), config.iterations);
  const auto rows = static_cast<double>(change.size(0)), columns = static_cast<double>(change.size(1));
  const double factor = config.rate == MuonRate::original ? std::sqrt(std::max(1.0, rows / columns))
                                                          : 0.2 * std::sqrt(std::max(rows, columns));
  if (param.decays) weight.mul_(1 - rate * config.weight_decay);
  weight.sub_(change.view(weight.sizes()), rate * factor);
}

namespace {

/// Which tensors the formula keeps for a weight, and of which shapes: what a step on `weight` made. Their values mean nothing.
template <class Config>
std::map<std::string, Tensor> kept_for(const Config& config, const std::string& name, const Tensor& weight) {
  Slot slot{.tensors = {}, .steps = 1};
  Param param{.name = name, .master = weight};
  update(config, param, at::ones_like(weight), slot, 0);
  return slot.tensors;
}

}  // namespace

template <class Config>
void Simple<Config>::step(double lr, double grad_scale, double ema_decay) {
  for (size_t i = 0; i < params_.size(); ++i) {
    if (!params_[i].grad.defined()) continue;
    if (++slots_[i].steps == 1 && kElementwise<Config>) make_tensors(i);
  }
  if constexpr (kElementwise<Config>) {
    for_each_slice(grad_scale, [&](size_t i, Param& part, int64_t begin, int64_t end) {
      Slot slot{.tensors = {}, .steps = slots_[i].steps};
      for (const auto& [name, tensor] : slots_[i].tensors) slot.tensors[name] = in_memory(tensor).slice(0, begin, end);
      update(config_, part, part.grad, slot, lr * part.lr_scale);
      follow(part, ema_decay);
    });
  } else {
    for_each_gradient(grad_scale, [&](size_t i, const Tensor& grad) {
      Param& param = params_[i];
      update(config_, param, grad, slots_[i], lr * param.lr_scale);
      follow(param, ema_decay);
    });
  }
}

/// Zeros for all that the formula keeps, before its pieces are filled apart.
template <class Config>
void Simple<Config>::make_tensors(size_t i) {
  for (const auto& [name, _] : kept_for(config_, params_[i].name, at::zeros({1}))) slots_[i].tensors[name] = zeros_for(params_[i]);
}

template <class Config>
NamedTensors Simple<Config>::state() const {
  NamedTensors state;
  std::vector<int64_t> steps;
  for (size_t i = 0; i < slots_.size(); ++i) {
    for (const auto& [name, tensor] : slots_[i].tensors) state.emplace_back(params_[i].name + "." + name, tensor);
    steps.push_back(slots_[i].steps);
  }
  state.emplace_back("steps", at::tensor(steps, at::kLong));
  return state;
}

template <class Config>
void Simple<Config>::load_state(const NamedTensors& state) {
  const StateReader reader(state, "optimizer state");
  const Tensor steps = reader.get("steps", {static_cast<int64_t>(slots_.size())}).to(at::kCPU, at::kLong).contiguous();
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i] = Slot{};
    slots_[i].steps = steps.const_data_ptr<int64_t>()[i];
    if (slots_[i].steps == 0) continue;
    for (const auto& [name, tensor] : kept_for(config_, params_[i].name, zeros_for(params_[i]))) {
      slots_[i].tensors[name] = at::empty_like(tensor).copy_(reader.get(params_[i].name + "." + name, tensor.sizes()));
    }
  }
}

template class Simple<SgdConfig>;
template class Simple<LionConfig>;
template class Simple<AdafactorConfig>;
template class Simple<CameConfig>;
template class Simple<AdanConfig>;
template class Simple<StableAdamWConfig>;
template class Simple<MuonConfig>;

}  // namespace emulsion::optim
