#include "config/override.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "config/resolve.h"
#include "config/toml.h"
#include "core/error.h"

namespace emulsion::config {
namespace {

using Kind = Schema::Kind;

void set_origin(Node& node, const std::string& origin) {
  node.place = node.key_place = {0, 0, origin};
  for (Node& item : node.items) set_origin(item, origin);
}

bool is_text(const Schema& schema) {
  return schema.kind == Kind::string || schema.kind == Kind::choice;
}

// The argument as the type of the field wants it. `schema` is null where nothing is known of the
// path.
Node argument(const Schema* schema, std::string_view value) {
  const auto parsed = parse_toml_value(value);
  Node bare = Node::of(std::string(value));
  if (!schema) return parsed.value_or(bare);
  const Schema& type = without_optional(*schema);
  const bool none_is_a_choice = std::ranges::find(type.choices, "none") != type.choices.end();
  if (schema->kind == Kind::optional && value == "none" && !none_is_a_choice) return {};
  if (is_text(type)) return parsed && accepts(type, *parsed) ? *parsed : bare;
  return parsed.value_or(bare);
}

// Walks a path down a tree and its schema together.
class Walk {
 public:
  Walk(const Schema& schema, Node& root, std::string origin)
      : schema_(&schema), node_(&root), origin_(std::move(origin)) {}

  void enter(const std::string& part);
  void assign(const std::string& part, std::string_view value);

 private:
  Node& child(const std::string& part);
  Node& list_item(const std::string& part);
  Node& table_entry(const std::string& part);
  const std::vector<Field>* alternative_fields() const;
  void switch_type(std::string_view value);

  const Schema* schema_;  // of node_; null where the path is unknown
  Node* node_;
  std::string origin_;
};

const std::vector<Field>* Walk::alternative_fields() const {
  const Node* type = node_->find("type");
  const auto* alternative = find_alternative(*schema_, type ? type->string : schema_->default_type);
  return alternative ? &alternative->fields : nullptr;
}

Node& Walk::list_item(const std::string& part) {
  size_t index = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
  const bool number = error == std::errc() && end == part.data() + part.size();
  const size_t size = node_->items.size();
  EMULSION_CHECK(number && index <= size, config,
                 "{}: expected an index from 0 to {} (which appends), got '{}'", origin_, size,
                 part);
  schema_ = &schema_->element.front();
  if (index == size) set_origin(node_->items.emplace_back(Node::table()), origin_);
  return node_->items[index];
}

Node& Walk::table_entry(const std::string& part) {
  const Field* field = nullptr;
  const Schema* type = nullptr;
  if (schema_ && schema_->kind == Kind::table) field = find_field(schema_->fields, part);
  if (schema_ && schema_->kind == Kind::variant && alternative_fields()) {
    field = find_field(*alternative_fields(), part);
  }
  if (schema_ && schema_->kind == Kind::map) type = &schema_->element.front();
  if (field) type = &field->type;
  schema_ = type;
  if (Node* present = node_->find(part)) return *present;
  // A list or a map is replaced as a whole when read, so an edit must start from the default.
  const Kind kind = field ? without_optional(field->type).kind : Kind::table;
  const bool whole = kind == Kind::list || kind == Kind::map;
  Node start = whole ? field->default_value : Node::table();
  set_origin(start, origin_);
  return node_->set(part, std::move(start));
}

Node& Walk::child(const std::string& part) {
  if (schema_) schema_ = &without_optional(*schema_);
  const bool list = schema_ && schema_->kind == Kind::list;
  const Node::Kind kind = list ? Node::Kind::list : Node::Kind::table;
  if (node_->kind != kind) {
    node_->kind = kind;
    node_->items.clear();
  }
  return list ? list_item(part) : table_entry(part);
}

void Walk::enter(const std::string& part) { node_ = &child(part); }

void Walk::switch_type(std::string_view value) {
  Schema text;
  text.kind = Kind::string;
  Node type = argument(&text, value);
  const Node* present = node_->find("type");
  const std::string current = present ? present->string : schema_->default_type;
  if (type.string != current) node_->items.clear();
  set_origin(type, origin_);
  node_->set("type", std::move(type));
}

void Walk::assign(const std::string& part, std::string_view value) {
  if (schema_ && without_optional(*schema_).kind == Kind::variant && part == "type") {
    schema_ = &without_optional(*schema_);
    node_->kind = Node::Kind::table;
    return switch_type(value);
  }
  Node& target = child(part);
  Node replacement = argument(schema_, value);
  set_origin(replacement, origin_);
  replacement.key = target.key;
  target = std::move(replacement);
}

}  // namespace

std::pair<std::string, std::string> parse_override(std::string_view argument) {
  const size_t equals = argument.find('=');
  EMULSION_CHECK(equals != std::string_view::npos && equals > 0, config,
                 "--set {}: expected key=value, e.g. optimizer.lr=1e-5", argument);
  return {std::string(argument.substr(0, equals)), std::string(argument.substr(equals + 1))};
}

void apply_override(const Schema& schema, Node& root, std::string_view path,
                    std::string_view value) {
  const std::vector<std::string> parts = split_path(path);
  Walk walk(schema, root, fmt::format("--set {}", path));
  for (size_t i = 0; i + 1 < parts.size(); ++i) walk.enter(parts[i]);
  walk.assign(parts.back(), value);
}

Node resolved_override(const Schema& schema, Node root, std::string_view path,
                       std::string_view value) {
  apply_override(schema, root, path, value);
  throw_problems(resolve(schema, root), fmt::format("--set {}", path));
  return root;
}

}  // namespace emulsion::config
