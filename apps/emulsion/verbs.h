// The verbs of the program, one file each. Each adds itself to the command line; its work runs
// while the line is parsed and throws Error.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace emulsion::app {

void add_train(CLI::App& app);
void add_generate(CLI::App& app);
void add_data(CLI::App& app);
void add_config(CLI::App& app);
void add_lora(CLI::App& app);
void add_models(CLI::App& app);
void add_inspect(CLI::App& app);
void add_convert(CLI::App& app);
void add_verify(CLI::App& app);
void add_replay(CLI::App& app);
void add_bench(CLI::App& app);
void add_bench_generate(CLI::App& bench);
void add_bench_load(CLI::App& bench);
void add_doctor(CLI::App& app);
void add_sheet(CLI::App& app);

/// A new verb below `app`, with the project's manners: `example` ends its help.
CLI::App* add_verb(CLI::App& app, const std::string& name, const std::string& about,
                   const std::string& example);

/// Adds `--json` to a verb: results as JSON lines on stdout.
void add_json(CLI::App& verb, bool& json);

}  // namespace emulsion::app
