#include "config/toml.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include "core/error.h"

namespace emulsion::config {
namespace {

Place place_of(const toml::source_region& source) {
  return {static_cast<int64_t>(source.begin.line), static_cast<int64_t>(source.begin.column), ""};
}

Node converted(const toml::node& source);

Node converted_table(const toml::table& source) {
  Node table = Node::table();
  for (const auto& [key, value] : source) {
    Node item = converted(value);
    item.key_place = place_of(key.source());
    table.set(key.str(), std::move(item));
  }
  // The library sorts by name; people read from the top.
  std::ranges::sort(table.items, {}, [](const Node& item) {
    return std::pair(item.key_place.line, item.key_place.column);
  });
  return table;
}

Node converted_list(const toml::array& source) {
  Node list = Node::list();
  for (const toml::node& item : source) list.items.push_back(converted(item));
  return list;
}

template <class T>
Node converted_date(const T& value) {
  std::ostringstream text;
  text << value;
  Node node = Node::of(text.str());
  node.kind = Node::Kind::date;
  return node;
}

Node converted(const toml::node& source) {
  Node node = source.visit([](const auto& value) -> Node {
    using V = std::decay_t<decltype(value)>;
    if constexpr (std::is_same_v<V, toml::table>) {
      return converted_table(value);
    } else if constexpr (std::is_same_v<V, toml::array>) {
      return converted_list(value);
    } else if constexpr (toml::is_chronological<V>) {
      return converted_date(value.get());
    } else {
      return Node::of(value.get());
    }
  });
  node.place = place_of(source.source());
  return node;
}

// "Error while parsing string: <what>" as " in string: <what>".
std::string reason(std::string_view description) {
  constexpr std::string_view kPrefix = "Error while parsing ";
  if (!description.starts_with(kPrefix)) return fmt::format(": {}", description);
  return fmt::format(" in {}", description.substr(kPrefix.size()));
}

}  // namespace

Node parse_toml(std::string_view text, std::string_view file) {
  try {
    return converted(toml::parse(text, file));
  } catch (const toml::parse_error& error) {
    const Place place = place_of(error.source());
    throw Error(ErrorCode::config, fmt::format("{}:{}:{}: not valid TOML{}", file, place.line,
                                               place.column, reason(error.description())));
  }
}

std::optional<Node> parse_toml_value(std::string_view text) {
  try {
    Node table = converted(toml::parse("value = " + std::string(text)));
    if (table.items.size() != 1 || table.items[0].key != "value") return std::nullopt;
    return std::move(table.items[0]);
  } catch (const toml::parse_error&) {
    return std::nullopt;
  }
}

std::string read_config_text(const std::filesystem::path& file) {
  EMULSION_CHECK(std::filesystem::exists(file), not_found,
                 "[{}] expected a run file, got nothing of that name; check the path",
                 file.string());
  EMULSION_CHECK(!std::filesystem::is_directory(file), io,
                 "[{}] expected a run file, got a folder; give the path of a .toml file",
                 file.string());
  std::ifstream stream(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  EMULSION_CHECK(stream.good() || stream.eof(), io,
                 "[{}] expected a readable run file, got a read error; check its permissions",
                 file.string());
  return text;
}

}  // namespace emulsion::config
