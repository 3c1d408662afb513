// emulsion bench load: how long reading a model takes here.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "core/device.h"
#include "io/jsonl.h"
#include "model_arguments.h"
#include "text.h"
#include "verbs.h"
#include "weights/load_bench.h"

namespace emulsion::app {
namespace {

struct LoadBenchArguments {
  std::string path, dtype = "stored";
  bool cold = false, json = false;
  ModelArguments model;
};

void print_load_result(const weights::LoadBenchResult& r, bool json) {
  if (json) {
    std::printf("%s\n", io::json_line({{"event", "result"},
                                       {"file_bytes", r.file_bytes},
                                       {"read_seconds", r.read_seconds},
                                       {"load_seconds", r.load_seconds},
                                       {"model_bytes", r.model_bytes},
                                       {"peak_memory_bytes", r.peak_memory_bytes}})
                            .c_str());
    return;
  }
  const auto times = [](double value, double of, const char* what) { return fmt::format("{:.2f} times {}", value / of, what); };
  std::fputs(table({{"read_seconds", fmt::format("{:.3f}", r.read_seconds), human_bytes(r.file_bytes) + " of files"},
                    {"load_seconds", fmt::format("{:.3f}", r.load_seconds), times(r.load_seconds, r.read_seconds, "reading")},
                    {"model_bytes", fmt::format("{}", r.model_bytes), human_bytes(r.model_bytes)},
                    {"peak_memory_bytes", fmt::format("{}", r.peak_memory_bytes),
                     times(static_cast<double>(r.peak_memory_bytes), static_cast<double>(r.model_bytes), "the model")}})
                 .c_str(),
             stdout);
}

void bench_load(const LoadBenchArguments& arguments) {
  set_compute_threads(0);
  const weights::LoadOptions options = load_options(arguments.model, dtype_named(arguments.dtype));
  print_load_result(weights::bench_load(arguments.path, options, arguments.cold), arguments.json);
}

}  // namespace

void add_bench_load(CLI::App& bench) {
  auto a = std::make_shared<LoadBenchArguments>();
  CLI::App* verb = add_verb(bench, "load", "Times loading a model, beside reading its files and doing nothing with them.",
                            "emulsion bench load v1-5-pruned-emaonly.safetensors --dtype float32");
  verb->add_option("model", a->path, "Model folder or single file")->required()->option_text("MODEL");
  verb->add_option("--dtype", a->dtype, "float32, float16, bfloat16 or stored [stored]")->option_text("DTYPE");
  verb->add_flag("--cold", a->cold, "From the disk, instead of from what the system keeps in memory");
  add_json(*verb, a->json);
  add_model_arguments(*verb, a->model);
  verb->callback([a] { bench_load(*a); });
}

}  // namespace emulsion::app
