// What the tests of optimizers share: the golden file's tensors, gradients and configurations.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/config.h"
#include "io/safetensors.h"
#include "optim/config.h"
#include "support/support.h"

namespace emulsion::optim {

/// Of the largest weight, float32; the packages order a few factors differently. Lion's steps are signs, and were equal.
inline constexpr double kTolerance = 2e-6;

struct OptimizerFile {
  OptimizerConfig optimizer;
  template <class V>
  void fields(V& v) {
    v("optimizer", optimizer, "");
  }
};

inline const io::SafetensorsFile& golden_optimizers() {
  static const auto kFile = io::SafetensorsFile::open(test::golden("optimizers.safetensors"));
  return kFile;
}

/// {"lr": 0.1, ...} as a run file says it.
inline OptimizerConfig config_of(const nlohmann::json& keys) {
  std::string text = "[optimizer]\n";
  for (const auto& [key, value] : keys.items()) text += key + " = " + value.dump() + "\n";
  return config::from_toml<OptimizerFile>(text, "run.toml").optimizer;
}

inline std::map<std::string, OptimizerConfig> golden_configs() {
  std::map<std::string, OptimizerConfig> all;
  const auto cases = nlohmann::json::parse(golden_optimizers().metadata().at("cases"));
  for (const auto& [name, keys] : cases.items()) all[name] = config_of(keys);
  all["adamw"] = AdamWConfig{};
  return all;
}

inline std::string numbered_name(const std::string& prefix, int64_t step, size_t i) {
  return prefix + std::to_string(step) + "." + std::to_string(i);
}

inline std::vector<Param> starting_params() {
  std::vector<Param> params(4);
  for (size_t i = 0; i < params.size(); ++i) {
    params[i].name = "p" + std::to_string(i);
    params[i].master = golden_optimizers().tensor("start." + std::to_string(i)).clone();
  }
  return params;
}

inline void set_gradients(Optimizer& optimizer, int64_t step) {
  for (size_t i = 0; i < optimizer.params().size(); ++i) {
    optimizer.params()[i].grad = golden_optimizers().tensor(numbered_name("grad.", step, i)).clone();
  }
}

inline void take_steps(Optimizer& optimizer, double lr, int64_t from, int64_t to, double ema_decay = 0) {
  for (int64_t step = from; step < to; ++step) {
    set_gradients(optimizer, step);
    optimizer.step(lr, 1, ema_decay);
  }
}

}  // namespace emulsion::optim
