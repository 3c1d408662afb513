// emulsion models: the models that have a name, which stands wherever a MODEL is asked for.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "io/jsonl.h"
#include "text.h"
#include "verbs.h"
#include "weights/catalogue.h"

namespace emulsion::app {
namespace {

void print_table(const std::vector<weights::ListedModel>& models) {
  std::vector<std::vector<std::string>> rows = {{"name", "family", "size", "licence", "where"}};
  for (const weights::ListedModel& model : models) {
    rows.push_back({model.name, model.family, human_bytes(model.bytes), model.licence.empty() ? "not stated" : model.licence,
                    model.path.string()});
  }
  std::fputs(table(rows).c_str(), stdout);
}

void list(bool json) {
  const auto models = weights::listed_models();
  if (json) {
    for (const weights::ListedModel& model : models) {
      std::printf("%s\n", io::json_line({{"event", "model"},
                                         {"name", model.name},
                                         {"family", model.family},
                                         {"bytes", model.bytes},
                                         {"licence", model.licence},
                                         {"path", model.path.string()}})
                              .c_str());
    }
    return;
  }
  if (!models.empty()) return print_table(models);
  std::printf("no models found. Looked in:%s\n", weights::model_folders().empty() ? " no folder exists" : "");
  for (const auto& folder : weights::model_folders()) std::printf("  %s\n", folder.c_str());
}

}  // namespace

void add_models(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb =
      add_verb(app, "models",
               "Lists models by name: shipped ones, those in ~/.local/share/emulsion/models, and those in the folders that "
               "EMULSION_MODELS names (separated by ':'). A name stands wherever a MODEL is asked for.",
               "emulsion models");
  add_json(*verb, *json);
  verb->callback([json] { list(*json); });
}

}  // namespace emulsion::app
