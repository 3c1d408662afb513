// What files of settings say, and whose they are.
#include "train/import.h"

#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/atomic_file.h"
#include "train/import_carrier.h"

namespace emulsion::train {
namespace {

void add_node(const config::Node& node, const std::string& key, Settings& into) {
  using Kind = config::Node::Kind;
  if (node.kind == Kind::table) {  // kohya's scripts do not look at sections
    for (const config::Node& item : node.items) add_node(item, item.key, into);
  } else if (node.kind == Kind::list) {
    for (const config::Node& item : node.items) add_node(item, key, into);
  } else {
    into[key].push_back(node.kind == Kind::string ? node.string : config::inline_text(node));
  }
}

void add_json(const nlohmann::json& json, const std::string& key, Settings& into) {
  if (json.is_object()) {
    for (const auto& [name, value] : json.items()) add_json(value, key.empty() ? name : key + "." + name, into);
  } else if (json.is_array()) {
    for (size_t i = 0; i < json.size(); ++i) add_json(json[i], json[i].is_object() ? fmt::format("{}.{}", key, i) : key, into);
  } else if (!json.is_null()) {
    into[key].push_back(json.is_string() ? json.get<std::string>() : json.dump());
  }
}

Settings command_line(const std::string& text) {
  Settings settings;
  std::string key;
  bool in_program = false;  // behind the script's name: what stands before it is accelerate's
  for (const std::string& word : words_of(text)) {
    if (word.ends_with(".py")) in_program = true;
    if (!word.starts_with("--")) {
      if (in_program && !key.empty()) settings[key].push_back(word);
      continue;
    }
    const size_t equals = word.find('=');
    key = word.substr(2, equals == word.npos ? word.npos : equals - 2);
    if (!in_program) continue;
    settings.try_emplace(key);
    if (equals != word.npos) settings[key].push_back(word.substr(equals + 1));
  }
  for (auto& [name, values] : settings) {
    if (values.empty()) values.push_back("true");
  }
  return settings;
}

/// Its values as they are written. Throws: Error{format} with line and column.
nlohmann::json json_of(const YAML::Node& node) {
  nlohmann::json json;  // null
  if (node.IsScalar()) json = node.Scalar();
  for (const auto& item : node) {
    if (node.IsSequence()) json.push_back(json_of(item));
    if (node.IsMap()) json[item.first.Scalar()] = json_of(item.second);
  }
  return json;
}

nlohmann::json parsed_yaml(const std::string& text, const std::string& file) {
  try {
    return json_of(YAML::Load(text));
  } catch (const YAML::Exception& error) {
    throw Error(ErrorCode::format, fmt::format("{}:{}:{}: {}", file, error.mark.line + 1, error.mark.column + 1, error.msg));
  }
}

}  // namespace

Imported import_settings(const std::filesystem::path& file) {
  const std::string text = io::read_file(file);
  Settings settings;
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const bool is_json = json.is_object();
  if (is_json) {
    add_json(json, "", settings);
    if (settings.contains("training_method") || settings.contains("base_model_name")) {
      Imported imported = from_onetrainer(std::move(settings));
      imported.source = "OneTrainer";
      return imported;
    }
  } else if (file.extension() == ".yaml" || file.extension() == ".yml") {
    add_json(parsed_yaml(text, file.string()), "", settings);
  } else if (file.extension() == ".toml") {
    add_node(config::parse_toml(text, file.string()), "", settings);
  } else {
    settings = command_line(text);
  }
  if (is_ai_toolkit(settings)) {
    Imported imported = from_ai_toolkit(std::move(settings));
    imported.source = "ai-toolkit";
    return imported;
  }
  EMULSION_CHECK(
      settings.contains("pretrained_model_name_or_path") || settings.contains("train_data_dir") ||
          settings.contains("network_module"),
      format,
      "{}: expected settings of kohya's sd-scripts (TOML, a script with the command line, the GUI's JSON), of OneTrainer "
      "(JSON) or of ai-toolkit (YAML, JSON), found none",
      file.string());
  Imported imported = from_kohya(std::move(settings), file.extension() == ".toml" || is_json ? "" : "--", !is_json);
  imported.source = "kohya's sd-scripts";
  return imported;
}

}  // namespace emulsion::train
