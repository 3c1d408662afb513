// emulsion doctor: what this machine can do, and what will be slow.
#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <torch/headeronly/version.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <regex>
#include <thread>

#include "core/device.h"
#include "core/error.h"
#include "io/jsonl.h"
#include "text.h"
#include "verbs.h"

namespace emulsion::app {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
// Floating-point operations of one LoRA step on SD 1.5 at 512 pixels and batch size 1, with latents
// and texts cached: forward and input gradients.
constexpr double kSd15StepFlop = 1.8e12;

struct Machine {
  std::string processor, features, torch, onednn, cuda;
  int64_t threads = 1, memory_left = 0, disk_left = 0;
  double load = 0;                   // average of the last minute
  double float32 = 0, bfloat16 = 0;  // measured, GFLOP/s
};

std::string line_after(const std::string& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with(key) && colon != line.npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string found(const std::string& text, const std::string& pattern) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(pattern)) ? match[1].str() : "unknown";
}

/// The best of some matrix products, for about half a second.
double matrix_product_gflops(int64_t n, at::ScalarType dtype) {
  using Clock = std::chrono::steady_clock;
  const Tensor a = at::ones({n, n}, dtype), b = at::ones({n, n}, dtype);
  Tensor out = at::mm(a, b);
  double best = 1e9, spent = 0;
  for (int i = 0; i < 3 || (spent < 0.5 && i < 200); ++i) {
    const auto begin = Clock::now();
    at::mm_out(out, a, b);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::min(best, seconds);
    spent += seconds;
  }
  return 2.0 * static_cast<double>(n * n * n) / best / 1e9;
}

std::string describe_cuda() {
  try {
    find_device("cuda");
    return "usable";
  } catch (const Error& error) {
    const std::string text = error.what();
    return "no: " + text.substr(0, text.rfind(';'));
  }
}

Machine examine() {
  Machine machine;
  machine.threads = set_compute_threads(0);
  machine.processor = line_after("/proc/cpuinfo", "model name");
  machine.features = cpu_features();
  const std::string config = at::show_config();
  machine.torch = TORCH_VERSION;
  machine.onednn = found(config, "MKL-DNN v([0-9.]+)");
  machine.cuda = describe_cuda();
  machine.memory_left = available_memory_bytes();
  machine.disk_left = static_cast<int64_t>(std::filesystem::space(".").available);
  std::ifstream("/proc/loadavg") >> machine.load;
  machine.float32 = matrix_product_gflops(1024, at::kFloat);
  machine.bfloat16 = matrix_product_gflops(has_fast_bfloat16() ? 2048 : 256, at::kBFloat16);
  return machine;
}

/// What will be slow, or will not work, and why.
std::vector<std::string> findings(const Machine& m) {
  const double ratio = m.bfloat16 / std::max(1e-9, m.float32);
  const double seconds = kSd15StepFlop / (0.7e9 * std::max(m.float32, m.bfloat16));
  const struct {
    bool holds;
    std::string text;
  } rules[] = {
      {m.features.find("AVX2") == m.features.npos && m.features.find("NEON") == m.features.npos,
       "The processor has no AVX2: everything runs several times slower than on a current one."},
      {ratio < 1,
       fmt::format("bfloat16 is {:.0f} times slower than float32 here (no AVX512-BF16 or AMX): "
                   "keep dtype = \"float32\".",
                   1 / std::max(ratio, 1e-9))},
      {ratio >= 1.3,
       fmt::format("bfloat16 is {:.1f} times as fast as float32 here: dtype = \"bfloat16\" "
                   "pays for models with wide layers.",
                   ratio)},
      {m.load > 0.5 * static_cast<double>(m.threads),
       fmt::format("Other programs are busy (load {:.1f} on {} cores): the figures above are too "
                   "low, and a step "
                   "waits for its slowest thread.",
                   m.load, m.threads)},
      {m.threads == 1, "Only one core may be used: a step takes at least twice as long as on two."},
      {m.memory_left < 4 * kGiB,
       fmt::format("Only {} of memory are free: small models only; SD 1.5 wants 6 GiB "
                   "for a LoRA.",
                   human_bytes(m.memory_left))},
      {m.disk_left < 5 * kGiB,
       fmt::format("Only {} of disk are free here: a model of SD 1.5's size takes 4 GiB, a "
                   "checkpoint of its full training 10.",
                   human_bytes(m.disk_left))},
      {true, fmt::format("Training runs on the CPU. Small models (the quickstart's) are at home "
                         "here; a LoRA step on "
                         "SD 1.5 at 512 pixels takes {} or more.",
                         human_seconds(seconds))},
  };
  std::vector<std::string> texts;
  for (const auto& rule : rules) {
    if (rule.holds) texts.push_back(rule.text);
  }
  return texts;
}

void print_report(const Machine& m) {
  std::printf("%s\n",
              table({{"processor", m.processor},
                     {"features", m.features.empty() ? "none that matter here" : m.features},
                     {"threads", human_count(m.threads)},
                     {"float32", fmt::format("{:.0f} GFLOP/s in matrix products", m.float32)},
                     {"bfloat16", fmt::format("{:.0f} GFLOP/s", m.bfloat16)},
                     {"memory free", human_bytes(m.memory_left)},
                     {"disk free here", human_bytes(m.disk_left)},
                     {"CUDA", m.cuda},
                     {"LibTorch", m.torch},
                     {"oneDNN", m.onednn}})
                  .c_str());
  for (const std::string& text : findings(m)) std::printf("- %s\n", text.c_str());
}

void print_json(const Machine& m) {
  std::printf("%s\n", io::json_line({{"processor", m.processor},
                                     {"features", m.features},
                                     {"threads", m.threads},
                                     {"float32_gflops", m.float32},
                                     {"bfloat16_gflops", m.bfloat16},
                                     {"memory_bytes", m.memory_left},
                                     {"disk_bytes", m.disk_left},
                                     {"cuda", m.cuda},
                                     {"libtorch", m.torch},
                                     {"onednn", m.onednn}})
                          .c_str());
}

}  // namespace

void add_doctor(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = add_verb(
      app, "doctor",
      "Measures this machine and says what will be slow and why. Takes about three seconds.",
      "emulsion doctor");
  add_json(*verb, *json);
  verb->callback([json] {
    const Machine machine = examine();
    *json ? print_json(machine) : print_report(machine);
  });
}

}  // namespace emulsion::app
