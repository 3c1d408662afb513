// Comparing an operation with its formula, values and gradients.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "support/support.h"

namespace emulsion::nn {

using Inputs = std::vector<Tensor>;
using Function = std::function<Tensor(const Inputs&)>;

inline Inputs cast(const Inputs& inputs, at::ScalarType dtype) {
  Inputs result;
  for (const Tensor& input : inputs) {
    // `to` keeps the strides: channels_last stays channels_last.
    result.push_back(input.detach().to(dtype, false, /*copy=*/true).set_requires_grad(true));
  }
  return result;
}

/// The output, then the gradient of sum(output * cotangent) by every input.
inline Inputs run(const Function& f, const Inputs& inputs, const Tensor& cotangent) {
  Tensor out = f(inputs);
  Inputs results = {out.detach()};
  out.backward(cotangent.to(out.scalar_type()));
  for (const Tensor& input : inputs) results.push_back(input.grad());
  return results;
}

inline void expect_same(const Function& ours, const Function& formula, const Inputs& inputs, at::ScalarType dtype,
                 double tolerance, const std::string& what) {
  const Inputs low = cast(inputs, dtype), high = cast(low, at::kDouble);
  Tensor cotangent = at::randn(formula(high).sizes(), at::kDouble).to(dtype);
  if (inputs[0].dim() == 4) cotangent = cotangent.contiguous(inputs[0].suggest_memory_format());
  const Inputs actual = run(ours, low, cotangent), expected = run(formula, high, cotangent);
  EXPECT_EQ(actual[0].scalar_type(), dtype) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(actual[i].defined()) << what << ", gradient of input " << i - 1;
    EXPECT_TRUE(test::close(actual[i], expected[i], tolerance))
        << what << ", " << (i == 0 ? "output" : "gradient of input " + std::to_string(i - 1));
  }
}

/// Central differences of sum(f * cotangent) against backward(), every element of every input.
inline void expect_finite_differences(const Function& f, const Inputs& inputs, const std::string& what) {
  const Inputs in = cast(inputs, at::kDouble);
  const Tensor cotangent = at::randn(f(in).sizes(), at::kDouble);
  const Inputs analytic = run(f, in, cotangent);
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < in.size(); ++i) {
    Inputs moved = in;
    Tensor numeric = at::zeros(in[i].sizes(), at::kDouble);
    for (int64_t k = 0; k < in[i].numel(); ++k) {
      const auto value_at = [&](double step) {
        Tensor flat = in[i].detach().contiguous().flatten().clone();
        flat[k] += step;
        moved[i] = flat.view(in[i].sizes()).contiguous(in[i].suggest_memory_format());
        return (f(moved) * cotangent).sum().item<double>();
      };
      numeric.view(-1)[k] = (value_at(1e-5) - value_at(-1e-5)) / 2e-5;
    }
    EXPECT_TRUE(test::close(analytic[i + 1], numeric, 1e-7)) << what << ", input " << i;
  }
}

}  // namespace emulsion::nn
