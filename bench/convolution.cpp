// 3 x 3 convolutions on this machine's CPU in float32: as a product with gathered neighbours, Winograd's, and at::conv2d.
//
//   ninja -C build/release bench_convolution && build/release/bench/bench_convolution [seconds per row, 1]
//
// Every row measures in turns and gives medians in milliseconds. GFLOP/s counts the plain sum, 18 in out H W per picture forward
// and three times that with both gradients: more than the machine's peak is possible.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "core/allocator.h"
#include "nn/attention_tiled.h"
#include "nn/gathered_convolution.h"
#include "nn/winograd.h"

using emulsion::Tensor;

namespace {

struct Case {
  int64_t batch, in, out, side;
  const char* where;
};
const Case kCases[] = {
    {16, 64, 64, 16, "quickstart, level 0"}, {16, 128, 64, 16, "level 0, up"},     {16, 64, 64, 8, "level 1"},
    {16, 192, 64, 8, "level 1, up"},         {16, 128, 128, 8, "level 2, up"},     {16, 128, 128, 4, "level 2"},
    {16, 256, 128, 4, "level 2, up"},        {1, 320, 320, 32, "SD 1.5 at 256 px"}, {1, 640, 640, 16, "level 1"},
    {1, 1280, 1280, 8, "level 2"},           {1, 1280, 1280, 4, "level 3"},         {1, 320, 320, 64, "SD 1.5 at 512 px"},
    {1, 640, 640, 32, "level 1"},            {1, 1280, 1280, 16, "level 2"},        {1, 512, 512, 64, "VAE at 512 px"},
    {1, 256, 256, 256, "VAE, level 1"},      {1, 128, 128, 512, "VAE, level 0"},
};

using Convolution = std::function<Tensor(const Tensor&, const Tensor&, const Tensor&)>;
using Clock = std::chrono::steady_clock;

double median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + x.size() / 2, x.end());
  return x[x.size() / 2];
}

/// Milliseconds forward, and of the gradients: towards the input alone, towards all.
struct Times {
  std::vector<double> forward, input, all;
};

double milliseconds(const std::function<void()>& f) {
  const auto start = Clock::now();
  f();
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

void measure(const Convolution& f, const std::vector<Tensor>& in, const Tensor& gradient, Times& times) {
  Tensor out;
  times.forward.push_back(milliseconds([&] { out = f(in[0], in[1], in[2]); }));
  times.all.push_back(milliseconds([&] { out.backward(gradient); }));
  for (Tensor x : in) x.mutable_grad() = Tensor();
  out = f(in[0], in[1].detach(), in[2].detach());
  times.input.push_back(milliseconds([&] { out.backward(gradient); }));
  Tensor(in[0]).mutable_grad() = Tensor();
}

void row(const Case& c, double seconds) {
  const auto last = at::MemoryFormat::ChannelsLast;
  const std::vector<Tensor> in = {at::randn({c.batch, c.in, c.side, c.side}).contiguous(last).requires_grad_(true),
                                  at::randn({c.out, c.in, 3, 3}).contiguous(last).requires_grad_(true),
                                  at::randn({c.out}).requires_grad_(true)};
  const Tensor gradient = at::randn({c.batch, c.out, c.side, c.side}).contiguous(last);
  const std::string path = emulsion::nn::default_tile_path(at::kFloat);
  const Convolution rivals[] = {
      [](const Tensor& x, const Tensor& w, const Tensor& b) { return emulsion::nn::gathered_convolution(x, w, b); },
      [&](const Tensor& x, const Tensor& w, const Tensor& b) { return emulsion::nn::winograd_convolution(x, w, b, path); },
      [](const Tensor& x, const Tensor& w, const Tensor& b) {
        return at::conv2d(x, w, b, at::IntArrayRef{1, 1}, at::IntArrayRef{1, 1});
      }};
  Times times[3], warm_up;
  for (const Convolution& f : rivals) measure(f, in, gradient, warm_up);
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    for (int i = 0; i < 3; ++i) measure(rivals[i], in, gradient, times[i]);
  } while (Clock::now() < end);

  const double work = 18e-6 * static_cast<double>(c.batch * c.in * c.out * c.side * c.side);
  fmt::print("| {} | {}x{}x{}x{} -> {} |", c.where, c.batch, c.in, c.side, c.side, c.out);
  for (const auto part : {&Times::forward, &Times::input, &Times::all}) {
    for (const Times& rival : times) fmt::print(" {:.2f} |", median(rival.*part));
    fmt::print(" {:.0f} |", (part == &Times::all ? 2 : 1) * work / std::min(median(times[0].*part), median(times[1].*part)));
  }
  fmt::print("\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  emulsion::install_caching_allocator();
  const double seconds = argc > 1 ? std::stod(argv[1]) : 1;
  fmt::print("path {}, {} threads; ms of a gathered product, Winograd's, at::conv2d; GFLOP/s of the better one of ours\n\n",
             emulsion::nn::default_tile_path(at::kFloat), at::get_num_threads());
  fmt::print("| Where | B x in x H x W -> out | forward: product | Winograd | ATen | GFLOP/s | input's gradient: product | Winograd | ATen "
             "| GFLOP/s | all gradients: product | Winograd | ATen | GFLOP/s |\n");
  fmt::print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Case& c : kCases) row(c, seconds);
}
