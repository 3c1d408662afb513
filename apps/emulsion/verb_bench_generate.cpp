// emulsion bench generate: how long drawing takes here.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "core/stop.h"
#include "generate/bench.h"
#include "io/jsonl.h"
#include "models/family.h"
#include "terminal.h"
#include "text.h"
#include "verbs.h"

namespace emulsion::app {
namespace {

struct DrawingBenchArguments {
  std::string dtype = "float32";
  bool json = false;
  generate::DrawingBenchOptions options;
};

void print_drawing_result(const generate::DrawingBenchResult& r, bool json) {
  if (json) {
    std::printf("%s\n", io::json_line({{"event", "result"},
                                       {"start_seconds", r.start_seconds},
                                       {"text_seconds", r.text_seconds},
                                       {"first_step", r.first_step},
                                       {"seconds_per_step", r.seconds_per_step},
                                       {"decode_seconds", r.decode_seconds},
                                       {"peak_memory_bytes", r.peak_memory_bytes}})
                            .c_str());
    return;
  }
  const auto seconds = [](double value) { return fmt::format("{:.3f}", value); };
  std::fputs(table({{"start_seconds", seconds(r.start_seconds), "from the program's start to the first step"},
                    {"text_seconds", seconds(r.text_seconds), "of which from prompts to text states"},
                    {"first_step", seconds(r.first_step), "seconds"},
                    {"seconds_per_step", seconds(r.seconds_per_step), "median of the others"},
                    {"decode_seconds", seconds(r.decode_seconds), "latents to pixels"},
                    {"peak_memory_bytes", fmt::format("{}", r.peak_memory_bytes), human_bytes(r.peak_memory_bytes)}})
                 .c_str(),
             stdout);
}

void bench_drawing(const DrawingBenchArguments& arguments) {
  install_stop_handlers();
  const auto reporter = make_reporter(arguments.json);
  generate::DrawingBenchOptions options = arguments.options;
  if (arguments.dtype == "bfloat16") options.dtype = at::kBFloat16;
  print_drawing_result(generate::bench_drawing(options, *reporter), arguments.json);
}

}  // namespace

void add_bench_generate(CLI::App& bench) {
  auto a = std::make_shared<DrawingBenchArguments>();
  CLI::App* verb = add_verb(bench, "generate", "Times drawing a picture: text, steps, decoding. Random weights will do for it.",
                            "emulsion bench generate --model sd1 --steps 4 --json");
  std::vector<std::string> families;
  for (const models::Family& family : models::families()) families.push_back(family.id);
  generate::DrawingBenchOptions& o = a->options;
  const auto option = [&](const char* name, auto& value, const char* text, const std::string& about) {
    return verb->add_option(name, value, about)->option_text(text);
  };
  option("--model", o.model, "MODEL",
         fmt::format("Random weights of {}; or a model folder or single file [sd1]", fmt::join(families, ", ")));
  verb->add_flag("--tiny", o.tiny, "The same wiring at a few thousand weights");
  option("--sampler", o.sampler, "ID", "As in generate [euler]");
  option("--size", o.size, "PIXELS", "Side of the pictures [the model's]")->check(CLI::NonNegativeNumber);
  option("--batch", o.batch, "N", "Pictures drawn together [1]")->check(CLI::Range(1, 64));
  option("--steps", o.steps, "N", "Steps of the sampler [4]")->check(CLI::Range(1, 1000));
  option("--cfg", o.cfg, "X", "Guidance scale; 1: none, half the work [7]")->check(CLI::NonNegativeNumber);
  option("--dtype", a->dtype, "DTYPE", "float32 or bfloat16 [float32]")->check(CLI::IsMember({"float32", "bfloat16"}));
  option("--threads", o.threads, "N", "Compute threads; 0: one per core [0]")->check(CLI::Range(0, 1024));
  add_json(*verb, a->json);
  verb->callback([a] { bench_drawing(*a); });
}

}  // namespace emulsion::app
