#include "train/gradient_taker.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <utility>

namespace emulsion::train {
namespace {

struct TakingHook : torch::autograd::PostAccumulateGradHook {
  TakingHook(size_t index, std::shared_ptr<const GradientTaker::Take> take) : index(index), take(std::move(take)) {}
  void operator()(const Tensor& leaf) override {
    const at::NoGradGuard no_grad;
    Tensor& place = leaf.mutable_grad();
    (*take)(index, std::exchange(place, Tensor()));
  }
  size_t index;
  std::shared_ptr<const GradientTaker::Take> take;
};

}  // namespace

GradientTaker::GradientTaker(const std::vector<Tensor*>& leaves, Take take) {
  const auto shared = std::make_shared<const Take>(std::move(take));
  for (size_t i = 0; i < leaves.size(); ++i) {
    leaves_.push_back(*leaves[i]);
    torch::autograd::impl::set_post_acc_grad_hooks(leaves_.back(), std::make_unique<TakingHook>(i, shared));
  }
}

GradientTaker::~GradientTaker() {
  for (const Tensor& leaf : leaves_) torch::autograd::impl::set_post_acc_grad_hooks(leaf, nullptr);
}

}  // namespace emulsion::train
