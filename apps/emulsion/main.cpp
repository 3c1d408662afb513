// The emulsion program: picks the verb, and turns what goes wrong into a message and an exit code.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <span>
#include <string_view>

#include "config/suggest.h"
#include "core/allocator.h"
#include "failure.h"
#include "verbs.h"

namespace emulsion::app {
namespace {

constexpr const char* kOverview = R"(Emulsion trains Stable Diffusion models and draws with them.

  emulsion train FOLDER            train a small model on nothing but a folder of pictures
  emulsion train RUN.toml          train as a run file says; goes on where it stopped
  emulsion generate MODEL PROMPT   draw
  emulsion data check FOLDER       what would be trained, and what is wrong with it
  emulsion config show RUN.toml    every setting of a run; also: config schema, config explain KEY
  emulsion lora merge|add|resize   LoRA into a model, several into one, to another rank; also: extract, diff, norms
  emulsion models                  models that have a name, which stands wherever a MODEL is asked for
  emulsion inspect FILE            what a file of weights, model folder or picture is
  emulsion convert IN OUT          a model in another layout or dtype
  emulsion verify MODEL            whole and sound? and its hashes
  emulsion replay RUN.toml REC     a run's losses and gradients on recorded inputs
  emulsion bench step              how long a training step takes here
  emulsion sheet LABEL=FOLDER...   pictures side by side in one PNG
  emulsion doctor                  what this machine can do, and what will be slow

Each verb has --help. Exit codes: 0 done, 2 bad arguments or run file, 3 to 9 other errors,
75 stopped by the user with everything saved.
)";

std::vector<std::string> names(const CLI::App& app) {
  std::vector<std::string> result;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    result.push_back(verb->get_name());
  }
  return result;
}

/// The verb, or verb within a verb, that the arguments have reached.
const CLI::App& reached(const CLI::App& app) {
  const auto parsed = app.get_subcommands();
  return parsed.empty() ? app : reached(*parsed.back());
}

std::string full_name(const CLI::App& verb) {
  const CLI::App* parent = verb.get_parent();
  return parent == nullptr ? verb.get_name() : full_name(*parent) + " " + verb.get_name();
}

/// Refuses the first argument in `words` that should name a verb of `app` and does not.
void check_verb(const CLI::App& app, std::span<char*> words) {
  const std::vector<std::string> known = names(app);
  if (known.empty() || words.empty() || words[0][0] == '-') return;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (verb->get_name() == words[0]) return check_verb(*verb, words.subspan(1));
  }
  throw Error(ErrorCode::config,
              fmt::format("expected one of {} after '{}', got '{}'{}", fmt::join(known, ", "),
                          full_name(app), words[0], config::did_you_mean(words[0], known)));
}

std::vector<std::string> option_names(const CLI::App& verb) {
  std::vector<std::string> result;
  for (const CLI::Option* option : verb.get_options()) {
    for (const std::string& name : option->get_lnames()) result.push_back("--" + name);
  }
  return result;
}

/// What the command line parser found, in the project's grammar.
Error usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& verb = reached(app);
  const std::string help = full_name(verb) + " --help shows what it takes";
  if (const std::vector<std::string> verbs = names(verb); !verbs.empty()) {
    return {ErrorCode::config, fmt::format("expected one of {} after '{}'; {}",
                                           fmt::join(verbs, ", "), full_name(verb), help)};
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr) {
    return {ErrorCode::config, fmt::format("{}: {}; {}", full_name(verb), error.what(), help)};
  }
  const std::vector<std::string> left = app.remaining(true);
  const std::string unknown = left.empty() ? "" : left.front().substr(0, left.front().find('='));
  const std::string guess = config::did_you_mean(unknown, option_names(verb));
  return {ErrorCode::config, fmt::format("{}: unexpected argument '{}'{}", full_name(verb), unknown,
                                         guess.empty() ? "; " + help : guess)};
}

/// Whether `word` names an option of `verb` that takes a value.
bool takes_value(const CLI::App& verb, const std::string& word) {
  const CLI::Option* option = word.starts_with('-') ? verb.get_option_no_throw(word) : nullptr;
  return option != nullptr && option->get_items_expected_max() > 0;
}

/// The parser takes "[a, b]" for a list, and prompts may look like that: "[a|b]". A space behind it, which means nothing to
/// a prompt, keeps it whole.
std::vector<std::string> with_brackets_kept(const CLI::App& app, std::span<char*> arguments) {
  std::vector<std::string> words(arguments.begin(), arguments.end());
  const auto verbs = app.get_subcommands([&](const CLI::App* v) { return !words.empty() && v->get_name() == words[0]; });
  if (verbs.empty()) return words;
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i].starts_with('[') && words[i].ends_with(']') && !takes_value(*verbs.front(), words[i - 1])) words[i] += ' ';
  }
  return words;
}

int run(int argc, char** argv) {
  CLI::App app("Trains Stable Diffusion models and draws with them.", "emulsion");
  app.set_help_flag("-h,--help", "Show this and stop");
  app.set_version_flag("--version", "emulsion " EMULSION_VERSION);
  app.get_formatter()->column_width(30);
  app.require_subcommand(1);
  for (const auto add : {add_train, add_generate, add_data, add_config, add_lora, add_models, add_inspect, add_convert, add_verify,
                         add_replay, add_bench, add_doctor, add_sheet}) {
    add(app);
  }
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (first.empty() || first == "-h" || first == "--help" || first == "help") {
    std::fputs(kOverview, stdout);
    return 0;
  }
  const std::span arguments = std::span(argv, static_cast<size_t>(argc)).subspan(1);
  check_verb(app, arguments);
  try {
    std::vector<std::string> words = with_brackets_kept(app, arguments);
    std::ranges::reverse(words);  // as the parser wants them
    app.parse(std::move(words));
  } catch (const CLI::Success& asked) {  // --help, --version
    app.exit(asked);
  } catch (const CLI::ParseError& error) {
    throw usage_error(app, error);
  }
  return 0;
}

}  // namespace

CLI::App* add_verb(CLI::App& app, const std::string& name, const std::string& about,
                   const std::string& example) {
  CLI::App* verb = app.add_subcommand(name, about);
  verb->footer("Example:\n  " + example);
  return verb;
}

void add_json(CLI::App& verb, bool& json) {
  verb.add_flag("--json", json, "JSON lines on stdout, for programs");
}

}  // namespace emulsion::app

int main(int argc, char** argv) {
  emulsion::install_caching_allocator();
  const std::span arguments(argv, static_cast<size_t>(argc));
  const bool json = std::any_of(arguments.begin(), arguments.end(), [](const char* word) {
    return std::string_view(word) == "--json";
  });
  return emulsion::app::run_guarded([&] { return emulsion::app::run(argc, argv); }, json);
}
