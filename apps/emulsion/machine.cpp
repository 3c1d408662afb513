#include "machine.h"

#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <torch/headeronly/version.h>

#include <filesystem>
#include <fstream>
#include <regex>

#include "core/device.h"
#include "core/error.h"
#include "text.h"
#include "train/bench.h"

namespace emulsion::app {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
// Floating-point operations of one LoRA step on SD 1.5 at 512 pixels and batch size 1, with latents
// and texts cached: forward and input gradients.
constexpr double kSd15StepFlop = 1.8e12;

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

std::string describe_cuda() {
  if (!std::filesystem::exists("/proc/driver/nvidia/version")) return "no NVIDIA driver here";
  try {
    find_device("cuda");
    return "usable";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

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
  machine.float32 = train::measure_peak(at::kFloat);
  machine.bfloat16 = train::measure_peak(at::kBFloat16);
  return machine;
}

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

}  // namespace emulsion::app
