#include "core/operator_profile.h"

#include <ATen/record_function.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "core/tensor.h"

namespace emulsion {

struct OperatorProfile::Recording {
  struct Running {
    std::chrono::steady_clock::time_point began;
    double inside = 0;  // seconds in operators that this one called
    std::string shapes;
    double flops = 0;
  };

  bool by_shape;
  at::CallbackHandle handle = 0;
  std::vector<Running> stack;
  std::map<std::pair<std::string, std::string>, OperatorTime> rows;
};

namespace {

using Inputs = c10::ArrayRef<const c10::IValue>;

thread_local OperatorProfile* active = nullptr;

double numel(const c10::IValue& value) { return static_cast<double>(value.toTensor().numel()); }

double product_flops(const c10::IValue& a, const c10::IValue& b) {  // [.., M, K] x [.., K, N]
  return 2 * numel(a) * static_cast<double>(b.toTensor().size(-1));
}

/// Per element of the output: every weight of one output channel once.
double convolution_flops(double outputs, const Tensor& weight) {
  return 2 * outputs * static_cast<double>(weight.numel()) / static_cast<double>(weight.size(0));
}

double mkldnn_convolution_flops(Inputs in) {  // (input, weight, bias, padding, stride, dilation, groups)
  const Tensor input = in[0].toTensor(), weight = in[1].toTensor();
  const auto padding = in[3].toIntVector(), stride = in[4].toIntVector(), dilation = in[5].toIntVector();
  double outputs = static_cast<double>(input.size(0) * weight.size(0));
  for (size_t d = 0; d < padding.size(); ++d) {
    const int64_t axis = static_cast<int64_t>(d) + 2;
    outputs *= static_cast<double>((input.size(axis) + 2 * padding[d] - dilation[d] * (weight.size(axis) - 1) - 1) / stride[d] + 1);
  }
  return convolution_flops(outputs, weight);
}

double convolution_backward_flops(Inputs in) {  // (grad, input, weight, ..., output_mask)
  const auto mask = in[in.size() - 1].toBoolList();
  return convolution_flops(numel(in[0]), in[2].toTensor()) * (mask.get(0) + mask.get(1));
}

double attention_flops(const c10::IValue& q, const c10::IValue& k) {  // two products
  return 4 * numel(q) * static_cast<double>(k.toTensor().size(-2));
}

/// A convolution of stride 1. `pixels`: its input or its output.
double same_size_flops(const c10::IValue& pixels, const c10::IValue& weight) {
  return 2 * numel(pixels) / static_cast<double>(pixels.toTensor().size(1)) * numel(weight);
}

/// What the products of Winograd's convolution take: 16 multiply-adds for 4 pixels instead of 36.
double winograd_flops(const c10::IValue& pixels, const c10::IValue& weight) { return same_size_flops(pixels, weight) * 4 / 9; }

/// (x or a gradient, one of the weights, columns of all results)
double linear_flops(Inputs in) {
  const Tensor rows = in[0].toTensor();
  return 2 * numel(in[0]) / static_cast<double>(rows.size(-1)) * static_cast<double>(in[1].toTensor().size(1) * in[2].toInt());
}

struct FlopRow {
  std::string_view name;
  double (*flops)(Inputs);
};
constexpr FlopRow kFlops[] = {
    {"aten::mm", [](Inputs in) { return product_flops(in[0], in[1]); }},
    {"aten::bmm", [](Inputs in) { return product_flops(in[0], in[1]); }},
    {"aten::addmm", [](Inputs in) { return product_flops(in[1], in[2]); }},
    {"aten::baddbmm", [](Inputs in) { return product_flops(in[1], in[2]); }},
    {"aten::mkldnn_convolution", mkldnn_convolution_flops},
    {"aten::convolution_backward", convolution_backward_flops},
    {"aten::_scaled_dot_product_flash_attention_for_cpu", [](Inputs in) { return attention_flops(in[0], in[1]); }},
    {"aten::_scaled_dot_product_flash_attention_for_cpu_backward",  // five products, one of them again
     [](Inputs in) { return 2.5 * attention_flops(in[1], in[2]); }},
    {"emulsion::convolution", [](Inputs in) { return winograd_flops(in[0], in[1]); }},
    {"emulsion::convolution_backward",  // the last input: how many gradients
     [](Inputs in) { return winograd_flops(in[0], in[1]) * static_cast<double>(in[2].toInt()); }},
    {"emulsion::direct_convolution", [](Inputs in) { return same_size_flops(in[0], in[1]); }},
    {"emulsion::direct_convolution_backward", [](Inputs in) { return same_size_flops(in[0], in[1]); }},
    {"emulsion::linear", linear_flops},
    {"emulsion::linear_backward", linear_flops},
    {"emulsion::attention", [](Inputs in) { return attention_flops(in[0], in[1]); }},
    {"emulsion::attention_backward", [](Inputs in) { return 2.5 * attention_flops(in[0], in[1]); }},
};

double flops_of(const char* name, Inputs inputs) {
  for (const FlopRow& row : kFlops) {
    if (row.name == name) return row.flops(inputs);
  }
  return 0;
}

std::string shapes_of(Inputs inputs) {
  std::string text;
  for (const c10::IValue& value : inputs) {
    if (value.isTensor() && value.toTensor().defined()) {
      text += fmt::format("{}[{}]", text.empty() ? "" : " ", fmt::join(value.toTensor().sizes(), ", "));
    }
  }
  return text;
}

/// "torch::autograd::CppNode<emulsion::nn::(anonymous namespace)::GeGluFunction>" -> "GeGluFunction".
std::string short_name(std::string name) {
  if (const size_t close = name.find('>'); close != std::string::npos) {
    name.resize(close);
    if (const size_t colon = name.rfind("::"); colon != std::string::npos) name.erase(0, colon + 2);
  }
  return name;
}

}  // namespace

OperatorProfile::OperatorProfile(bool by_shape) : recording_(std::make_unique<Recording>()) {
  recording_->by_shape = by_shape;
  active = this;
  // The inputs are there only when an operator begins.
  const auto begin = [](const at::RecordFunction& function) -> std::unique_ptr<at::ObserverContext> {
    Recording& r = *active->recording_;
    Recording::Running running;
    if (r.by_shape) running.shapes = shapes_of(function.inputs());
    running.flops = flops_of(function.name(), function.inputs());
    running.began = std::chrono::steady_clock::now();
    r.stack.push_back(std::move(running));
    return nullptr;
  };
  const auto end = [](const at::RecordFunction& function, at::ObserverContext*) {
    Recording& r = *active->recording_;
    if (r.stack.empty()) return;  // began before the recording did
    const Recording::Running running = std::move(r.stack.back());
    r.stack.pop_back();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - running.began).count();
    if (!r.stack.empty()) r.stack.back().inside += seconds;
    const std::string name = short_name(function.name());
    OperatorTime& row = r.rows[{name, running.shapes}];
    row.name = name;
    row.shapes = running.shapes;
    ++row.calls;
    row.seconds += seconds - running.inside;
    row.gflop += running.flops / 1e9;
  };
  recording_->handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(begin, end)
          .needsInputs(true)
          .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE}));
}

OperatorProfile::~OperatorProfile() {
  at::removeCallback(recording_->handle);
  active = nullptr;
}

std::vector<OperatorTime> OperatorProfile::times() const {
  std::vector<OperatorTime> rows;
  for (const auto& [key, row] : recording_->rows) rows.push_back(row);
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  return rows;
}

}  // namespace emulsion
