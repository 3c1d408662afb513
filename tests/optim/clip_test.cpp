#include "optim/clip.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/random.h"

namespace emulsion::optim {
namespace {

TEST(ClipTest, NormOfAllTensorsTogether) {
  const std::vector<Tensor> grads = {at::tensor({3.0f}), Tensor(), at::tensor({0.0f, 4.0f}),
                                     at::full({2, 2}, 6.0, at::kBFloat16)};
  EXPECT_DOUBLE_EQ(global_norm(grads), 13);  // 9 + 16 + 4 * 36 = 169
}

TEST(ClipTest, ScaleBringsTheNormToTheLimitAndNeverGrows) {
  const std::vector<Tensor> grads = {at::tensor({3.0f, 4.0f})};
  EXPECT_NEAR(clip(grads, 2).scale, 0.4, 1e-6);
  EXPECT_EQ(clip(grads, 10).scale, 1);
  EXPECT_EQ(clip(grads, 0).scale, 1);
  EXPECT_EQ(clip(grads, 0).norm, 5);
}

TEST(ClipTest, EachTensorIsClippedByItself) {
  const std::vector<Tensor> grads = {at::tensor({3.0f, 4.0f}), Tensor(), at::tensor({0.6f, 0.8f})};
  const Clip clipped = clip(grads, 2, ClipBy::tensor_norm);
  EXPECT_NEAR(clipped.norm, std::sqrt(26), 1e-6);
  EXPECT_EQ(clipped.scale, 1);
  EXPECT_TRUE(at::allclose(grads[0], at::tensor({1.2f, 1.6f}), 1e-6));
  EXPECT_TRUE(at::equal(grads[2], at::tensor({0.6f, 0.8f})));
}

TEST(ClipTest, EachNumberIsKeptWithinTheLimit) {
  const std::vector<Tensor> grads = {at::tensor({-3.0f, 0.5f, 4.0f})};
  EXPECT_EQ(clip(grads, 1, ClipBy::value).scale, 1);
  EXPECT_TRUE(at::equal(grads[0], at::tensor({-1.0f, 0.5f, 1.0f})));
  clip(grads, 0, ClipBy::value);
  EXPECT_TRUE(at::equal(grads[0], at::tensor({-1.0f, 0.5f, 1.0f})));
}

TEST(ClipTest, ANormThatIsNotFiniteIsReturned) {
  EXPECT_TRUE(std::isnan(clip({at::tensor({1.0f, NAN})}, 1).norm));
  EXPECT_TRUE(std::isinf(clip({at::tensor({1.0f, INFINITY})}, 1).norm));
}

TEST(ClipTest, LayoutAndThreadsDoNotMatter) {
  const Tensor grad = Rng(1).normal({64, 96, 5, 5}, Purpose::noise);
  const double norm = global_norm({grad});
  EXPECT_NEAR(norm, grad.to(at::kDouble).norm().item<double>(), 1e-9 * norm);
  EXPECT_NEAR(global_norm({grad.contiguous(at::MemoryFormat::ChannelsLast)}), norm, 1e-9 * norm);
  EXPECT_NEAR(global_norm({grad.slice(3, 0, 5, 2)}),
              grad.slice(3, 0, 5, 2).to(at::kDouble).norm().item<double>(), 1e-9 * norm);
  const int threads = at::get_num_threads();
  at::set_num_threads(3);
  EXPECT_EQ(global_norm({grad}), norm);
  at::set_num_threads(threads);
}

}  // namespace
}  // namespace emulsion::optim
