// emulsion config: what a run file means.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "arguments.h"
#include "config/config.h"
#include "io/atomic_file.h"
#include "text.h"
#include "train/config.h"
#include "train/import.h"
#include "verbs.h"

namespace emulsion::app {
namespace {

using train::RunConfig;

struct Arguments {
  std::string file, key, output;
  std::vector<std::string> set;
};

void show(const Arguments& arguments) {
  const RunConfig run = train::load_run_config(arguments.file, parse_overrides(arguments.set));
  std::fputs(config::to_toml(run).c_str(), stdout);
}

/// Their settings as a run file, and on the terminal what was left of them and why.
void import(const Arguments& arguments) {
  const train::Imported imported = train::import_settings(arguments.file);
  std::string text = fmt::format("# Carried over from settings of {}.\n", imported.source);
  for (const auto& [setting, reason] : imported.left) text += fmt::format("# not carried over: {}: {}\n", setting, reason);
  text += "\n" + config::to_toml(imported.config);
  if (arguments.output.empty()) {
    std::fputs(text.c_str(), stdout);
  } else {
    io::write_file_atomic(arguments.output, text);
    std::printf("%s\n", arguments.output.c_str());
  }
  for (const auto& [setting, reason] : imported.left)
    std::fprintf(stderr, "not carried over: %s: %s\n", setting.c_str(), reason.c_str());
}

std::string first_sentence(const std::string& text) { return text.substr(0, text.find(". ")); }

/// The fields below `key`, all if it is empty.
void list_below(const std::string& key) {
  std::vector<std::vector<std::string>> rows;
  for (const config::FieldInfo& field : config::list_fields<RunConfig>()) {
    const std::string& path = field.path;
    const bool below =
        path.starts_with(key) && path != key &&
        (path[key.size()] == '.' || path[key.size()] == '[' || path[key.size()] == '(');
    if (!key.empty() && !below) continue;
    rows.push_back({path, field.required ? "(required)" : field.default_value,
                    shortened(first_sentence(field.doc), 70)});
  }
  std::fputs(table(rows).c_str(), stdout);
}

void explain(const std::string& key) {
  if (key.empty()) return list_below(key);
  const config::FieldInfo field = config::explain<RunConfig>(key);
  std::vector<std::vector<std::string>> rows = {{"type", field.type}};
  if (field.required) rows.push_back({"default", "none: it must be given"});
  if (!field.default_value.empty()) rows.push_back({"default", field.default_value});
  if (!field.range.empty()) rows.push_back({"range", field.range});
  if (!field.choices.empty()) {
    rows.push_back({"one of", fmt::format("{}", fmt::join(field.choices, ", "))});
  }
  if (!field.unit.empty()) rows.push_back({"unit", field.unit});
  std::printf("%s\n  %s\n\n%s", field.path.c_str(), field.doc.c_str(), table(rows).c_str());
  if (field.default_value.empty() && !field.required) {
    std::printf("\nFields:\n");
    list_below(field.path);
  }
}

}  // namespace

void add_config(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = add_verb(app, "config", "Shows and explains the settings of a run.",
                            "emulsion config explain optimizer.lr");
  verb->require_subcommand(1);

  CLI::App* show_verb =
      add_verb(*verb, "show", "Prints the effective run file: every setting, with what it means.",
               "emulsion config show run.toml --set optimizer.lr=1e-5");
  show_verb->add_option("run", arguments->file, "The run file")
      ->required()
      ->option_text("RUN.toml");
  show_verb->add_option("--set", arguments->set, "Change one setting; may be repeated")
      ->option_text("KEY=VALUE")
      ->allow_extra_args(false);
  show_verb->callback([arguments] { show(*arguments); });

  CLI::App* import_verb = add_verb(*verb, "import", "Makes a run file of settings of kohya's sd-scripts, OneTrainer or ai-toolkit.",
                                   "emulsion config import kohya.toml -o run.toml");
  import_verb->add_option("file", arguments->file, "TOML, a script with the command line, or JSON")
      ->required()
      ->option_text("FILE");
  import_verb->add_option("-o,--output", arguments->output, "Where to write it, instead of the terminal")->option_text("RUN.toml");
  import_verb->callback([arguments] { import(*arguments); });

  CLI::App* schema_verb =
      add_verb(*verb, "schema", "Prints the JSON Schema of run files, for editors.",
               "emulsion config schema > run.schema.json");
  schema_verb->callback([] { std::printf("%s\n", config::json_schema<RunConfig>().c_str()); });

  CLI::App* explain_verb =
      add_verb(*verb, "explain", "Says what a setting or a section means: type, default, range.",
               "emulsion config explain optimizer.lr");
  explain_verb->add_option("key", arguments->key, "The setting; without it, all are listed")
      ->option_text("KEY");
  explain_verb->callback([arguments] { explain(arguments->key); });
}

}  // namespace emulsion::app
