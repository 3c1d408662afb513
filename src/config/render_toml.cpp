// The effective config as a documented TOML file.
#include <fmt/format.h>

#include <algorithm>

#include "config/render.h"

namespace emulsion::config {
namespace {

using Kind = Schema::Kind;

constexpr size_t kColumns = 100;

// "Side of the picture. (64 to 4096 px)"
std::string doc_of(const Field& field) {
  const Schema& limits = leaf(field.type);
  std::string remark = range_text(field.type);
  if (!limits.unit.empty()) remark += (remark.empty() ? "" : " ") + limits.unit;
  if (!limits.choices.empty()) remark = fmt::format("{}", fmt::join(limits.choices, ", "));
  std::string doc = field.doc;
  if (!field.note.empty()) doc += ' ' + field.note;
  if (!remark.empty()) doc += fmt::format(" ({})", remark);
  std::ranges::replace(doc, '\n', ' ');
  return doc;
}

// `text` as comment lines of at most kColumns, broken between words.
std::string comment(std::string_view text) {
  std::string lines;
  std::string line = "#";
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (line.size() > 1 && line.size() + 1 + end > kColumns) {
      lines += line + '\n';
      line = "#";
    }
    if (end > 0) line += fmt::format(" {}", text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return line == "#" ? lines : lines + line + '\n';
}

bool is_struct(const Schema& type) {
  return type.kind == Kind::table || type.kind == Kind::variant;
}

// Whether the value stands under a [header] of its own rather than on a line.
bool is_section(const Schema& type, const Node& value) {
  if (value.kind == Node::Kind::null) return false;
  const Schema& inner = without_optional(type);
  if (inner.kind == Kind::map) return !value.items.empty();
  if (inner.kind == Kind::list) return !value.items.empty() && is_struct(inner.element.front());
  return is_struct(inner);
}

class Writer {
 public:
  void body(const Schema& type, const Node& value, const std::string& path);
  std::string text;

 private:
  void line(const Field& field, const Node& value);
  void section(const Schema& type, const Node& value, const std::string& path,
               const std::string& doc);
  void header(const std::string& bracketed, const std::string& doc);
  void fields(const std::vector<Field>& fields, const Node& table, const std::string& path);
  void type_line(const Schema& variant, const Node& table);
  void map(const Schema& element, const Node& table, const std::string& path);
};

void Writer::line(const Field& field, const Node& value) {
  const bool unset = value.kind == Node::Kind::null;
  // "none" takes back a default; nothing needs to be said where there is none.
  const bool none = unset && field.default_value.kind != Node::Kind::null;
  std::string code = fmt::format("{} = ", key_text(field.name));
  if (none) {
    code += "\"none\"";
  } else if (unset) {
    code = fmt::format("# {}<{}>", code, type_text(without_optional(field.type)));
  } else {
    code += inline_text(value);
  }
  const std::string doc = doc_of(field);
  const bool fits = code.size() + 4 + doc.size() <= kColumns;
  if (doc.empty()) {
    text += code + '\n';
  } else if (fits) {
    text += fmt::format("{}  # {}\n", code, doc);
  } else {
    text += comment(doc) + code + '\n';
  }
}

void Writer::header(const std::string& bracketed, const std::string& doc) {
  if (!text.empty()) text += '\n';
  if (!doc.empty()) text += comment(doc);
  text += bracketed + '\n';
}

void Writer::section(const Schema& type, const Node& value, const std::string& path,
                     const std::string& doc) {
  const Schema& inner = without_optional(type);
  if (inner.kind != Kind::list) {
    header('[' + path + ']', doc);
    return body(inner, value, path);
  }
  for (const Node& item : value.items) {
    header("[[" + path + "]]", &item == &value.items.front() ? doc : "");
    body(inner.element.front(), item, path);
  }
}

void Writer::body(const Schema& type, const Node& value, const std::string& path) {
  if (type.kind == Kind::map) return map(type.element.front(), value, path);
  if (type.kind == Kind::table) return fields(type.fields, value, path);
  type_line(type, value);
  fields(find_alternative(type, value.find("type")->string)->fields, value, path);
}

void Writer::type_line(const Schema& variant, const Node& table) {
  Field type;
  type.name = "type";
  type.doc = fmt::format("One of {}; each has fields of its own.",
                         fmt::join(alternative_names(variant), ", "));
  line(type, *table.find("type"));
}

void Writer::fields(const std::vector<Field>& fields, const Node& table, const std::string& path) {
  for (const Field& field : fields) {
    const Node& value = *table.find(field.name);
    if (!is_section(field.type, value)) line(field, value);
  }
  for (const Field& field : fields) {
    const Node& value = *table.find(field.name);
    const std::string own_path = join_path(path, field.name);
    if (is_section(field.type, value)) section(field.type, value, own_path, doc_of(field));
  }
}

void Writer::map(const Schema& element, const Node& table, const std::string& path) {
  for (const Node& item : table.items) {
    if (is_section(element, item)) continue;
    text += fmt::format("{} = {}\n", key_text(item.key), inline_text(item));
  }
  for (const Node& item : table.items) {
    if (is_section(element, item)) section(element, item, join_path(path, item.key), "");
  }
}

}  // namespace

std::string toml_text(const Schema& schema, const Node& root) {
  Writer writer;
  writer.body(schema, root, "");
  return std::move(writer.text);
}

}  // namespace emulsion::config
