// emulsion bench: how long a training step takes here; verb_bench_generate.cpp: a picture,
// verb_bench_load.cpp: reading a model.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "arguments.h"
#include "config/enum_names.h"
#include "core/stop.h"
#include "io/jsonl.h"
#include "terminal.h"
#include "text.h"
#include "train/bench.h"
#include "verbs.h"

namespace emulsion::app {
namespace {

struct Arguments {
  std::string dtype = "float32";
  std::string profile;
  std::vector<std::string> set;
  bool json = false;
  train::BenchOptions options;
};

void print_operators(const train::BenchResult& r, bool json) {
  if (json) {
    for (const OperatorTime& row : r.operators) {
      std::printf("%s\n", io::json_line({{"event", "operator"},
                                         {"name", row.name},
                                         {"shapes", row.shapes},
                                         {"calls", row.calls},
                                         {"seconds", row.seconds},
                                         {"gflop", row.gflop}})
                              .c_str());
    }
    return;
  }
  double total = 0;
  for (const OperatorTime& row : r.operators) total += row.seconds;
  std::vector<std::vector<std::string>> rows = {{"operator", "calls", "ms", "share", "GFLOP/s", "of peak"}};
  for (const OperatorTime& row : r.operators) {
    if (row.seconds < 0.002 * total) continue;  // what no one would notice
    const double speed = row.seconds > 0 ? row.gflop / row.seconds : 0;
    const std::string name = row.shapes.empty() ? row.name : row.name + " " + row.shapes;
    rows.push_back({name, fmt::format("{}", row.calls), fmt::format("{:.2f}", 1e3 * row.seconds),
                    fmt::format("{:.1f} %", 100 * row.seconds / total), speed > 0 ? fmt::format("{:.0f}", speed) : "",
                    speed > 0 ? fmt::format("{:.0f} %", 100 * speed / r.peak_gflops) : ""});
  }
  std::printf("\nOne step of %.1f ms with the batch in one piece, recorded, by operator:\n%s", 1e3 * total, table(rows).c_str());
}

void print_result(const train::BenchResult& r, bool json) {
  if (json) {
    std::printf("%s\n", io::json_line({{"event", "result"},
                                       {"seconds_per_step", r.seconds_per_step},
                                       {"fastest_step", r.fastest_step},
                                       {"first_step_seconds", r.first_step_seconds},
                                       {"first_loss", r.first_loss},
                                       {"peak_memory_bytes", r.peak_memory_bytes},
                                       {"peak_tensor_bytes", r.peak_tensor_bytes},
                                       {"faults_per_step", r.faults_per_step},
                                       {"requests_per_step", r.requests_per_step},
                                       {"step_gflop", r.step_gflop},
                                       {"peak_gflops", r.peak_gflops},
                                       {"share_of_peak", r.share_of_peak}})
                            .c_str());
    return;
  }
  std::fputs(
      table({{"seconds_per_step", fmt::format("{:.4f}", r.seconds_per_step), "median"},
             {"fastest_step", fmt::format("{:.4f}", r.fastest_step), "seconds"},
             {"first_step_seconds", fmt::format("{:.2f}", r.first_step_seconds), "from the start"},
             {"peak_memory_bytes", fmt::format("{}", r.peak_memory_bytes),
              fmt::format("{}, {} of it in tensors", human_bytes(r.peak_memory_bytes), human_bytes(r.peak_tensor_bytes))},
             {"faults_per_step", fmt::format("{:.0f}", r.faults_per_step),
              fmt::format("pages; {:.1f} blocks from the system", r.requests_per_step)},
             {"share_of_peak", fmt::format("{:.3f}", r.share_of_peak),
              fmt::format("of {:.0f} GFLOP/s, measured", r.peak_gflops)},
             {"first_loss", fmt::format("{:.5f}", r.first_loss), ""}})
          .c_str(),
      stdout);
}

void step(const Arguments& arguments) {
  install_stop_handlers();
  const auto reporter = make_reporter(arguments.json);
  train::BenchOptions options = arguments.options;
  options.dtype = config::value_of<train::ComputeDtype>(arguments.dtype);
  options.settings = parse_overrides(arguments.set);
  if (!arguments.profile.empty()) options.profile = config::value_of<train::ProfileDetail>(arguments.profile);
  const train::BenchResult result = train::bench_step(options, *reporter);
  print_result(result, arguments.json);
  if (!result.operators.empty()) print_operators(result, arguments.json);
}

}  // namespace

void add_bench(CLI::App& app) {
  auto a = std::make_shared<Arguments>();
  CLI::App* verb = add_verb(app, "bench", "Measures speed.", "emulsion bench step");
  verb->require_subcommand(1);
  CLI::App* step_verb = add_verb(
      *verb, "step",
      "Times training steps on random weights and inputs: forward, backward, clipping, optimizer.\n"
      "Close other programs first: a step waits for its slowest thread.",
      "emulsion bench step --model quickstart --steps 50 --json");
  train::BenchOptions& o = a->options;
  const auto option = [&](const char* name, auto& value, const char* text,
                          const std::string& about) {
    return step_verb->add_option(name, value, about)->option_text(text);
  };
  option("--model", o.model, "NAME",
         fmt::format("{} [quickstart]", fmt::join(train::bench_models(), ", ")));
  step_verb->add_flag("--tiny", o.tiny, "A family's wiring at a few thousand weights");
  option("--method", o.method, "NAME", "diffusion or lora [diffusion]")
      ->check(CLI::IsMember({"diffusion", "lora"}));
  option("--size", o.size, "PIXELS", "Side of the pictures [the model's]")
      ->check(CLI::NonNegativeNumber);
  option("--batch", o.batch, "N", "Pictures in a step [the model's]")
      ->check(CLI::NonNegativeNumber);
  option("--dtype", a->dtype, "DTYPE", "float32 or bfloat16 [float32]")
      ->check(CLI::IsMember({"float32", "bfloat16"}));
  option("--steps", o.steps, "N", "Steps to time, after the first [20]")
      ->check(CLI::Range(1, 100000));
  option("--set", a->set, "KEY=VALUE", "Change a setting of the run: method.algo=loha, optimizer.type=lion; may be repeated")
      ->allow_extra_args(false);
  option("--threads", o.threads, "N", "Compute threads; 0: one per core [0]")
      ->check(CLI::Range(0, 1024));
  step_verb
      ->add_option("--profile", a->profile,
                   "Where the time goes: by operator, or by operator and tensor shapes\n(four more steps)")
      ->option_text("[operators|shapes]")
      ->expected(0, 1)
      ->default_str("operators")
      ->check(CLI::IsMember({"operators", "shapes"}));
  add_json(*step_verb, a->json);
  step_verb->callback([a] { step(*a); });
  add_bench_generate(*verb);
  add_bench_load(*verb);
}

}  // namespace emulsion::app
