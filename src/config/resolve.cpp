#include "config/resolve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "config/explain.h"
#include "config/suggest.h"
#include "config/toml.h"
#include "core/error.h"

namespace emulsion::config {
namespace {

using Kind = Schema::Kind;

// The kind of node that a type is written as. A number may also be written as an integer.
Node::Kind node_kind(Kind kind) {
  switch (kind) {
    case Kind::boolean:
      return Node::Kind::boolean;
    case Kind::integer:
      return Node::Kind::integer;
    case Kind::number:
      return Node::Kind::number;
    case Kind::string:
    case Kind::choice:
      return Node::Kind::string;
    case Kind::list:
      return Node::Kind::list;
    case Kind::optional:
      return Node::Kind::null;
    case Kind::map:
    case Kind::table:
    case Kind::variant:
      return Node::Kind::table;
  }
  return Node::Kind::null;
}

std::string quoted_list(const std::vector<std::string>& names) {
  return names.empty() ? "" : fmt::format("\"{}\"", fmt::join(names, "\", \""));
}

bool is_scalar(const Node& node) {
  return node.kind == Node::Kind::boolean || node.kind == Node::Kind::integer ||
         node.kind == Node::Kind::number;
}

// What to write instead, for the usual slips; "" if there is nothing to say.
std::string remedy(const Schema& schema, const Node& node, const std::string& path) {
  if (schema.kind == Kind::list && accepts(schema.element.front(), node)) {
    const bool table = node.kind == Node::Kind::table;
    return table ? fmt::format("; write [[{}]]", path)
                 : fmt::format("; write [{}]", inline_text(node));
  }
  if (schema.kind == Kind::variant && find_alternative(schema, node.string)) {
    return fmt::format("; write {}.type = \"{}\"", path, node.string);
  }
  if (node_kind(schema.kind) == Node::Kind::string && is_scalar(node)) {
    return fmt::format("; write \"{}\"", inline_text(node));
  }
  if (node.kind == Node::Kind::string) {
    const auto unquoted = parse_toml_value(node.string);
    return unquoted && accepts(schema, *unquoted) ? "; write it without quotes" : "";
  }
  const bool whole = node.kind == Node::Kind::number && std::trunc(node.number) == node.number &&
                     std::abs(node.number) < 1e15;
  return schema.kind == Kind::integer && whole ? fmt::format("; write {:.0f}", node.number) : "";
}

class Resolver {
 public:
  explicit Resolver(const Schema& root) : root_(root) {}

  void check(const Schema& schema, Node& node, const std::string& path);
  std::vector<Problem> problems() && { return std::move(problems_); }

 private:
  void check_number(const Schema& schema, Node& node, const std::string& path);
  void check_choice(const Schema& schema, const Node& node, const std::string& path);
  void check_items(const Schema& schema, Node& node, const std::string& path);
  void check_variant(const Schema& schema, Node& node, const std::string& path);
  void check_fields(const std::vector<Field>& fields, bool typed, Node& node,
                    const std::string& path);
  void check_absent(const Field& field, const Node& parent, const std::string& path);
  std::string unknown_key(const std::string& path, const Node& entry,
                          const std::vector<std::string>& known) const;
  void add(const Place& place, std::string text) { problems_.push_back({place, std::move(text)}); }

  const Schema& root_;
  std::vector<Problem> problems_;
};

void Resolver::check(const Schema& schema, Node& node, const std::string& path) {
  if (schema.kind == Kind::optional) {
    const Schema& element = schema.element.front();
    const bool none = node.kind == Node::Kind::string && node.string == "none" &&
                      node_kind(element.kind) != Node::Kind::string;
    if (none) node.kind = Node::Kind::null;
    if (node.kind != Node::Kind::null) check(element, node, path);
    return;
  }
  if (!accepts(schema, node)) {
    return add(node.place, fmt::format("'{}': expected {}, got {}{}", path, expected_text(schema),
                                       found_text(node), remedy(schema, node, path)));
  }
  switch (schema.kind) {
    case Kind::integer:
    case Kind::number:
      return check_number(schema, node, path);
    case Kind::string:
    case Kind::choice:
      return check_choice(schema, node, path);
    case Kind::list:
    case Kind::map:
      return check_items(schema, node, path);
    case Kind::table:
      return check_fields(schema.fields, false, node, path);
    case Kind::variant:
      return check_variant(schema, node, path);
    default:
      return;
  }
}

void Resolver::check_number(const Schema& schema, Node& node, const std::string& path) {
  if (schema.kind == Kind::number && node.kind == Node::Kind::integer) {
    node.kind = Node::Kind::number;
    node.number = static_cast<double>(node.integer);
  }
  const bool integer = node.kind == Node::Kind::integer;
  const double value = integer ? static_cast<double>(node.integer) : node.number;
  const std::string text = integer ? fmt::format("{}", node.integer) : fmt::format("{}", value);
  const auto refuse = [&](const std::string& expected) {
    add(node.place, fmt::format("'{}' is {}; expected {}{}{}", path, text, expected,
                                schema.unit.empty() ? "" : " ", schema.unit));
  };
  if (std::isnan(value)) return refuse("a number");
  if (schema.min && value < *schema.min) return refuse(fmt::format("at least {}", *schema.min));
  if (schema.above && value <= *schema.above) {
    return refuse(fmt::format("more than {}", *schema.above));
  }
  if (schema.max && value > *schema.max) return refuse(fmt::format("at most {}", *schema.max));
  if (schema.below && value >= *schema.below) {
    return refuse(fmt::format("less than {}", *schema.below));
  }
  if (!schema.choices.empty() && std::ranges::find(schema.choices, text) == schema.choices.end()) {
    refuse(fmt::format("one of {}", fmt::join(schema.choices, ", ")));
  }
}

void Resolver::check_choice(const Schema& schema, const Node& node, const std::string& path) {
  const auto& choices = schema.choices;
  if (choices.empty() || std::ranges::find(choices, node.string) != choices.end()) return;
  add(node.place, fmt::format("'{}' is {}; expected one of {}{}", path, inline_text(node),
                              quoted_list(choices), did_you_mean(node.string, choices)));
}

void Resolver::check_items(const Schema& schema, Node& node, const std::string& path) {
  for (size_t i = 0; i < node.items.size(); ++i) {
    Node& item = node.items[i];
    const bool list = schema.kind == Kind::list;
    if (list) item.key_place = item.place;
    check(schema.element.front(), item,
          list ? fmt::format("{}.{}", path, i) : join_path(path, item.key));
  }
}

void Resolver::check_variant(const Schema& schema, Node& node, const std::string& path) {
  const std::vector<std::string> names = alternative_names(schema);
  const std::string type_path = join_path(path, "type");
  Node* type = node.find("type");
  if (!type && schema.default_type.empty()) {
    return add(node.key_place,
               fmt::format("missing '{}'; expected one of {}", type_path, quoted_list(names)));
  }
  if (type) {
    Schema choice;
    choice.kind = Kind::choice;
    choice.choices = names;
    const size_t before = problems_.size();
    check(choice, *type, type_path);
    if (problems_.size() > before) return;  // without a type nothing is known about the rest
  }
  const std::string name = type ? type->string : schema.default_type;
  check_fields(find_alternative(schema, name)->fields, true, node, path);
}

void Resolver::check_fields(const std::vector<Field>& fields, bool typed, Node& node,
                            const std::string& path) {
  std::vector<std::string> known = field_names(fields);
  if (typed) known.insert(known.begin(), "type");
  for (Node& entry : node.items) {
    if (const Field* field = find_field(fields, entry.key)) {
      check(field->type, entry, join_path(path, entry.key));
    } else if (!typed || entry.key != "type") {
      add(entry.key_place, unknown_key(path, entry, known));
    }
  }
  for (const Field& field : fields) {
    if (!node.find(field.name)) check_absent(field, node, path);
  }
}

void Resolver::check_absent(const Field& field, const Node& parent, const std::string& path) {
  const std::string own_path = join_path(path, field.name);
  // A table that is not in the file still has its required fields; they are missed where it would
  // be.
  Node empty = Node::table();
  empty.place = empty.key_place = path.empty() ? Place{} : parent.key_place;
  const bool section = field.type.kind == Kind::table || field.type.kind == Kind::variant;
  if (section && !field.required) return check(field.type, empty, own_path);
  if (!field.required) return;
  add(empty.place,
      fmt::format("missing '{}'; expected {}: {}", own_path, expected_text(field.type), field.doc));
}

std::string Resolver::unknown_key(const std::string& path, const Node& entry,
                                  const std::vector<std::string>& known) const {
  const std::string text = fmt::format("unknown key '{}'", join_path(path, entry.key));
  const std::string hint = did_you_mean(entry.key, known);
  if (!hint.empty()) return text + hint;
  for (const FieldInfo& info : flat_fields(root_, /*with_sections=*/true)) {
    if (info.path == entry.key || info.path.ends_with('.' + entry.key)) {
      return fmt::format("{}; did you mean '{}'?", text, info.path);
    }
  }
  if (known.empty()) return text + "; nothing can be set here";
  return fmt::format("{}; expected one of {}", text, fmt::join(known, ", "));
}

std::string place_text(const Place& place, std::string_view file) {
  if (!place.origin.empty()) return place.origin;
  if (place.line == 0) return std::string(file);
  return fmt::format("{}:{}:{}", file, place.line, place.column);
}

// First what stands in the file, then what is missing from it, then the command line.
auto reading_order(const Problem& problem) {
  constexpr int64_t kNowhere = std::numeric_limits<int64_t>::max();
  const Place& place = problem.place;
  return std::tuple(!place.origin.empty(), place.line == 0 ? kNowhere : place.line, place.column);
}

}  // namespace

bool accepts(const Schema& schema, const Node& node) {
  const Schema& type = without_optional(schema);
  return node.kind == node_kind(type.kind) ||
         (type.kind == Kind::number && node.kind == Node::Kind::integer);
}

std::vector<Problem> resolve(const Schema& schema, Node& root) {
  Resolver resolver(schema);
  resolver.check(schema, root, "");
  return std::move(resolver).problems();
}

void throw_problems(std::vector<Problem> problems, std::string_view file) {
  if (problems.empty()) return;
  std::ranges::stable_sort(problems, {}, reading_order);
  std::vector<std::string> lines;
  for (const Problem& problem : problems) {
    lines.push_back(fmt::format("{}: {}", place_text(problem.place, file), problem.text));
  }
  throw Error(ErrorCode::config, fmt::format("{}", fmt::join(lines, "\n")));
}

Node resolved_toml(const Schema& schema, std::string_view text, std::string_view file,
                   const Overrides& overrides) {
  Node root = parse_toml(text, file);
  for (const auto& [path, value] : overrides) apply_override(schema, root, path, value);
  throw_problems(resolve(schema, root), file);
  return root;
}

}  // namespace emulsion::config
