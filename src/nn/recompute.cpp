#include "nn/recompute.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "core/device.h"

namespace emulsion::nn {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using BlockFunction = std::function<Tensor(const Tensor&, const Tensor&)>;

namespace {

thread_local Recomputation* current = nullptr;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// A graph of its own begins here.
Tensor cut_off(const Tensor& x) { return x.defined() ? x.detach().set_requires_grad(x.requires_grad()) : x; }

/// The gradients that reach x from within the block are added up before others join them, as where the block is repeated: the
/// order of a sum decides its last bits.
Tensor bundled(const Tensor& x) { return x.defined() && x.requires_grad() ? x.view_as(x) : x; }

Tensor gradient_of(const Tensor& x) { return x.defined() ? x.grad() : x; }

struct Repeated : torch::CustomClassHolder {
  Repeated(BlockFunction f, Recomputation* plan, size_t index) : f(std::move(f)), plan(plan), index(index) {}
  BlockFunction f;
  Recomputation* plan;
  size_t index;
};

}  // namespace

struct RepeatedBlock : torch::autograd::Function<RepeatedBlock> {
  /// `root` requires a gradient, so that there is a backward pass even where only the block's weights train. It also stands for
  /// an `other` that is not there.
  static Tensor forward(AutogradContext* context, const Tensor& root, const Tensor& x, const Tensor& other,
                        const c10::intrusive_ptr<Repeated>& what) {
    const Tensor told = other.is_same(root) ? Tensor() : other;
    context->save_for_backward({x, told});
    context->saved_data["block"] = c10::IValue::make_capsule(what);
    return what->f(x, told);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    RECORD_USER_SCOPE("emulsion::recompute");
    const auto what = c10::static_intrusive_pointer_cast<Repeated>(context->saved_data["block"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const Tensor x = cut_off(saved[0]), other = cut_off(saved[1]);
    BlockCost cost;
    Tensor y;
    {
      const at::AutoGradMode with_graph(true);
      const Recomputation::Scope within(nullptr);
      const int64_t before = tensor_bytes(x.device()).now;
      const double begin = now();
      y = what->f(x, other);
      const int64_t bytes = tensor_bytes(x.device()).now - before - static_cast<int64_t>(y.nbytes());
      cost = {bytes, now() - begin, x.numel(), !y.requires_grad()};
    }
    what->plan->measured(what->index, cost);
    if (cost.frozen) return {Tensor(), Tensor(), Tensor(), Tensor()};
    torch::autograd::backward({y}, {gradients[0]});
    return {Tensor(), gradient_of(x), gradient_of(other), Tensor()};
  }
};

std::vector<bool> blocks_to_keep(const std::vector<BlockCost>& costs, int64_t budget) {
  std::vector<size_t> order(costs.size());
  std::iota(order.begin(), order.end(), 0);
  const auto worth = [&](size_t i) { return costs[i].seconds / static_cast<double>(std::max<int64_t>(1, costs[i].bytes)); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return worth(a) > worth(b); });
  std::vector<bool> kept(costs.size(), false);
  for (const size_t i : order) {
    if (costs[i].bytes > budget) continue;
    budget -= std::max<int64_t>(0, costs[i].bytes);
    kept[i] = true;
  }
  return kept;
}

void Recomputation::forget() {
  kept_.clear();
  outgrown_ = false;
}

bool Recomputation::keeps_now(size_t index, int64_t numel) {
  if (index < costs_.size() && costs_[index].frozen) return true;
  if (index >= kept_.size()) return false;
  if (numel > costs_[index].numel) outgrown_ = true;
  return kept_[index] && numel <= costs_[index].numel;
}

void Recomputation::measured(size_t index, const BlockCost& cost) {
  if (index >= costs_.size()) costs_.resize(index + 1);
  if (kept_.empty()) costs_[index] = cost;
}

Recomputation::Scope::Scope(Recomputation* plan) : before_(std::exchange(current, plan)) {
  if (plan != nullptr) plan->entered_ = 0;
}

Recomputation::Scope::~Scope() { current = before_; }

Tensor block(const BlockFunction& f, const Tensor& x, const Tensor& other) {
  if (current == nullptr || !at::GradMode::is_enabled()) return f(x, other);
  const size_t index = current->entered_++;
  if (current->keeps_now(index, x.numel())) return f(bundled(x), bundled(other));
  const Tensor root = at::empty({0}, x.options()).set_requires_grad(true);
  return RepeatedBlock::apply(root, x, other.defined() ? other : root, c10::make_intrusive<Repeated>(f, current, index));
}

}  // namespace emulsion::nn
