// emulsion doctor: what this machine can do, and what will be slow.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "io/jsonl.h"
#include "machine.h"
#include "text.h"
#include "verbs.h"

namespace emulsion::app {
namespace {

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
