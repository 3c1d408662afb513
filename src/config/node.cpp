#include "config/node.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "core/error.h"

namespace emulsion::config {
namespace {

// The shortest text that reads back exactly, and as a number rather than an integer.
std::string number_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return text;
}

std::string escaped(unsigned char c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\t':
      return "\\t";
    case '\n':
      return "\\n";
    case '\f':
      return "\\f";
    case '\r':
      return "\\r";
    default:
      break;
  }
  if (c < 0x20 || c == 0x7f) return fmt::format("\\u{:04X}", c);
  return std::string(1, static_cast<char>(c));
}

std::string string_text(std::string_view value) {
  std::string text = "\"";
  for (const char c : value) text += escaped(static_cast<unsigned char>(c));
  return text + '"';
}

std::string list_text(const std::vector<Node>& items) {
  std::string text;
  for (const Node& item : items) text += (text.empty() ? "" : ", ") + inline_text(item);
  return '[' + text + ']';
}

std::string table_text(const std::vector<Node>& items) {
  std::string text;
  for (const Node& item : items) {
    if (item.kind == Node::Kind::null) continue;  // not set is not written
    text += (text.empty() ? " " : ", ") + key_text(item.key) + " = " + inline_text(item);
  }
  return text.empty() ? "{}" : '{' + text + " }";
}

// `text` cut to what fits in a message, never inside a UTF-8 sequence.
std::string shortened(const std::string& text) {
  constexpr size_t kLongest = 60;
  if (text.size() <= kLongest) return text;
  size_t end = kLongest;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

}  // namespace

Node Node::of(bool value) {
  Node node;
  node.kind = Kind::boolean;
  node.boolean = value;
  return node;
}

Node Node::of(int64_t value) {
  Node node;
  node.kind = Kind::integer;
  node.integer = value;
  return node;
}

Node Node::of(double value) {
  Node node;
  node.kind = Kind::number;
  node.number = value;
  return node;
}

Node Node::of(std::string value) {
  Node node;
  node.kind = Kind::string;
  node.string = std::move(value);
  return node;
}

Node Node::list() {
  Node node;
  node.kind = Kind::list;
  return node;
}

Node Node::table() {
  Node node;
  node.kind = Kind::table;
  return node;
}

const Node* Node::find(std::string_view name) const {
  const auto it = std::ranges::find(items, name, &Node::key);
  return kind == Kind::table && it != items.end() ? &*it : nullptr;
}

Node* Node::find(std::string_view name) {
  return const_cast<Node*>(static_cast<const Node*>(this)->find(name));
}

Node& Node::set(std::string_view name, Node value) {
  value.key = name;
  if (Node* present = find(name)) return *present = std::move(value);
  return items.emplace_back(std::move(value));
}

std::string inline_text(const Node& node) {
  switch (node.kind) {
    case Node::Kind::null:
      return "not set";
    case Node::Kind::boolean:
      return node.boolean ? "true" : "false";
    case Node::Kind::integer:
      return fmt::format("{}", node.integer);
    case Node::Kind::number:
      return number_text(node.number);
    case Node::Kind::string:
      return string_text(node.string);
    case Node::Kind::list:
      return list_text(node.items);
    case Node::Kind::table:
      return table_text(node.items);
    case Node::Kind::date:
      return node.string;
  }
  return "";
}

std::string found_text(const Node& node) {
  switch (node.kind) {
    case Node::Kind::null:
      return "nothing";
    case Node::Kind::boolean:
      return "boolean " + inline_text(node);
    case Node::Kind::integer:
      return "integer " + inline_text(node);
    case Node::Kind::number:
      return "number " + inline_text(node);
    case Node::Kind::string:
      return "string " + string_text(shortened(node.string));
    case Node::Kind::list:
      return "a list";
    case Node::Kind::table:
      return "a table";
    case Node::Kind::date:
      return "date or time " + node.string;
  }
  return "";
}

std::string key_text(std::string_view key) {
  const auto bare = [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) != 0 || c == '_' || c == '-');
  };
  return !key.empty() && std::ranges::all_of(key, bare) ? std::string(key) : string_text(key);
}

std::string join_path(std::string_view parent, std::string_view key) {
  return parent.empty() ? key_text(key) : fmt::format("{}.{}", parent, key_text(key));
}

std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> parts(1);
  bool quoted = false;
  for (const char c : path) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == '.' && !quoted) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  const bool whole = !quoted && std::ranges::none_of(parts, &std::string::empty);
  EMULSION_CHECK(whole, config,
                 "expected a path like optimizer.lr or data.sources.0.repeats, got '{}'", path);
  return parts;
}

}  // namespace emulsion::config
