// Attention on this machine's CPU: ours beside at::scaled_dot_product_attention and beside three plain products.
//
//   ninja -C build/release bench_attention && build/release/bench/bench_attention [seconds per row, 1] [path]
//
// Every row measures in turns, so that a change of clock or of load meets all alike, and gives medians in milliseconds.
// GFLOP/s counts 4 L S D per image forward, 14 with the backward pass (five products, and the logits again).
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdio>

#include "core/allocator.h"
#include "nn/attention_tiled.h"

using emulsion::Tensor;

namespace {

struct Case {
  int64_t batch, queries, keys, heads, width;
  const char* where;
};
const Case kCases[] = {
    {1, 4096, 4096, 8, 40, "SD 1.5 at 512 px, level 0"},  {1, 1024, 1024, 8, 80, "level 1"},
    {1, 256, 256, 8, 160, "level 2"},                     {1, 64, 64, 8, 160, "middle"},
    {1, 4096, 77, 8, 40, "level 0, text"},                {1, 1024, 77, 8, 80, "level 1, text"},
    {1, 256, 77, 8, 160, "level 2, text"},                {1, 1024, 1024, 10, 64, "SDXL at 512 px, level 1"},
    {1, 4096, 4096, 10, 64, "SDXL at 1024 px, level 1"},  {1, 77, 77, 12, 64, "CLIP's length, not causal"},
    {16, 256, 256, 2, 32, "quickstart, level 0"},         {16, 64, 64, 4, 32, "quickstart, level 1"},
    {16, 64, 77, 4, 32, "quickstart, text"},              {1, 1024, 1024, 1, 512, "VAE at 256 px"},
};

using Attention = std::function<Tensor(const Tensor&, const Tensor&, const Tensor&)>;

Tensor by_head(const Tensor& x, int64_t heads) { return x.unflatten(2, {heads, x.size(2) / heads}).transpose(1, 2); }

Tensor by_aten(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads) {
  const Tensor out = at::scaled_dot_product_attention(by_head(q, heads), by_head(k, heads), by_head(v, heads));
  return out.transpose(1, 2).reshape(q.sizes());
}

Tensor by_products(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads) {
  const auto flat = [&](const Tensor& x) { return by_head(x, heads).flatten(0, 1); };
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(2) / heads));
  const Tensor out = at::bmm(at::softmax(at::bmm(flat(q) * scale, flat(k).transpose(1, 2)), -1), flat(v));
  return out.unflatten(0, {q.size(0), heads}).transpose(1, 2).reshape(q.sizes());
}

/// Milliseconds of the forward pass and of both.
struct Times {
  std::vector<double> forward, both;
  static double median(std::vector<double> x) {
    std::nth_element(x.begin(), x.begin() + x.size() / 2, x.end());
    return x[x.size() / 2];
  }
};

void measure(const Attention& attention, const std::vector<Tensor>& in, const Tensor& gradient, Times& times) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point t) { return std::chrono::duration<double, std::milli>(Clock::now() - t).count(); };
  const auto start = Clock::now();
  const Tensor out = attention(in[0], in[1], in[2]);
  times.forward.push_back(since(start));
  out.backward(gradient);
  times.both.push_back(since(start));
  for (Tensor x : in) x.mutable_grad() = Tensor();
}

void row(const Case& c, at::ScalarType dtype, double seconds, const std::string& path) {
  const auto random = [&](int64_t length) {
    return at::randn({c.batch, length, c.heads * c.width}).to(dtype).requires_grad_(true);
  };
  const std::vector<Tensor> in = {random(c.queries), random(c.keys), random(c.keys)};
  const Tensor gradient = at::randn(in[0].sizes()).to(dtype);
  const bool small = c.batch * c.heads * c.queries * c.keys <= (int64_t{64} << 20);
  const std::vector<Attention> rivals = {
      [&](const Tensor& q, const Tensor& k, const Tensor& v) { return emulsion::nn::tiled_attention(q, k, v, c.heads, {}, path); },
      [&](const Tensor& q, const Tensor& k, const Tensor& v) { return by_aten(q, k, v, c.heads); },
      [&](const Tensor& q, const Tensor& k, const Tensor& v) { return by_products(q, k, v, c.heads); }};
  std::vector<Times> times(small ? 3 : 2);
  for (size_t i = 0; i < times.size(); ++i) measure(rivals[i], in, gradient, times[i]);  // first touch
  times.assign(times.size(), {});
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  do {
    for (size_t i = 0; i < times.size(); ++i) measure(rivals[i], in, gradient, times[i]);
  } while (std::chrono::steady_clock::now() < end);

  const double work = 1e-6 * static_cast<double>(c.batch * c.queries * c.keys * c.heads * c.width);
  const double forward = Times::median(times[0].forward), both = Times::median(times[0].both);
  fmt::print("| {} | {}x{}x{} {}x{} | {:.2f} | {:.2f} | {:.0f} | {:.0f} | {:.2f} | {:.2f} |", c.where, c.batch, c.queries, c.keys,
             c.heads, c.width, forward, both, 4 * work / forward, 14 * work / both,
             Times::median(times[1].forward) / forward, Times::median(times[1].both) / both);
  if (small) {
    fmt::print(" {:.2f} | {:.2f} |\n", Times::median(times[2].forward) / forward, Times::median(times[2].both) / both);
  } else {
    fmt::print(" – | – |\n");
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  emulsion::install_caching_allocator();
  const double seconds = argc > 1 ? std::stod(argv[1]) : 1;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const std::string path = argc > 2 ? argv[2] : emulsion::nn::default_tile_path(dtype);
    fmt::print("\n{}, path {}, {} threads; ratios: how much longer the other takes\n\n", c10::toString(dtype), path,
               at::get_num_threads());
    fmt::print("| Where | B x L x S, heads x width | forward ms | both ms | GFLOP/s | both | ATen | both | products | both |\n");
    fmt::print("|---|---|---|---|---|---|---|---|---|---|\n");
    for (const Case& c : kCases) row(c, dtype, seconds, path);
    std::fflush(stdout);
  }
}
