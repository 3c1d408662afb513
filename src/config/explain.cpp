#include "config/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "config/suggest.h"
#include "core/error.h"

namespace emulsion::config {
namespace {

using Kind = Schema::Kind;

// What a field is called once lists and maps are looked into: "[]" and ".<name>" are appended.
struct Inner {
  const Schema* type;
  std::string suffix;
};

Inner inside(const Schema& schema) {
  switch (schema.kind) {
    case Kind::optional:
      return inside(schema.element.front());
    case Kind::list:
    case Kind::map: {
      Inner inner = inside(schema.element.front());
      inner.suffix.insert(0, schema.kind == Kind::list ? "[]" : ".<name>");
      return inner;
    }
    default:
      return {&schema, ""};
  }
}

bool has_fields(const Schema& schema) {
  return schema.kind == Kind::table || schema.kind == Kind::variant;
}

FieldInfo described(const Field& field, const std::string& path) {
  FieldInfo info;
  info.path = path;
  info.type = type_text(field.type);
  info.doc = field.note.empty() ? field.doc : field.doc + ' ' + field.note;
  info.required = field.required;
  const bool section = has_fields(field.type);
  if (!field.required && !section) info.default_value = inline_text(field.default_value);
  info.range = range_text(field.type);
  info.choices = leaf(field.type).choices;
  info.unit = leaf(field.type).unit;
  return info;
}

FieldInfo described_type(const Schema& variant, const std::string& parent) {
  FieldInfo info;
  info.path = join_path(parent, "type");
  info.type = "choice";
  info.doc = "Which of the alternatives this is; each has fields of its own.";
  for (const Alternative& alternative : variant.alternatives) {
    if (alternative.doc.empty()) continue;
    info.doc += fmt::format(" {}: {}", alternative.type, alternative.doc);
  }
  info.required = variant.default_type.empty();
  if (!info.required) info.default_value = inline_text(Node::of(variant.default_type));
  info.choices = alternative_names(variant);
  return info;
}

// A field, and whether it is there while every variant above it is its default alternative.
struct Row {
  FieldInfo info;
  bool section;  // has fields of its own, which are rows too
  bool by_default;
};

void list(const std::vector<Field>& fields, const std::string& parent, bool by_default,
          std::vector<Row>& rows) {
  for (const Field& field : fields) {
    const Inner inner = inside(field.type);
    const std::string path = join_path(parent, field.name);
    const std::string inner_path = path + inner.suffix;
    rows.push_back({described(field, path), has_fields(*inner.type), by_default});
    if (inner.type->kind == Kind::table) list(inner.type->fields, inner_path, by_default, rows);
    if (inner.type->kind != Kind::variant) continue;
    rows.push_back({described_type(*inner.type, inner_path), false, by_default});
    for (const Alternative& alternative : inner.type->alternatives) {
      list(alternative.fields, fmt::format("{}({})", inner_path, alternative.type),
           by_default && alternative.type == inner.type->default_type, rows);
    }
  }
}

std::vector<Row> listed(const Schema& schema) {
  std::vector<Row> rows;
  list(schema.fields, "", true, rows);
  return rows;
}

// `data.sources[].repeats` as data, sources, [], repeats; `method(lora).rank` as method, (lora),
// rank.
std::vector<std::string> tokens(std::string_view path) {
  std::vector<std::string> all;
  for (const std::string& part : split_path(path)) {
    const size_t mark = std::min(part.find_first_of("[("), part.size());
    if (mark > 0) all.push_back(part.substr(0, mark));
    for (size_t i = mark; i < part.size();) {
      const size_t end = std::min(part.find_first_of("])", i), part.size() - 1) + 1;
      all.push_back(part.substr(i, end - i));
      i = end;
    }
  }
  return all;
}

bool is_index(const std::string& token) {
  return token == "[]" || token.find_first_not_of("0123456789") == std::string::npos;
}

// Whether the path of a row is what `wanted` means: indices and alternatives may be left out.
bool matches(std::span<const std::string> row, std::span<const std::string> wanted) {
  while (!row.empty()) {
    const bool here = !wanted.empty() && (row[0] == "<name>" || row[0] == wanted[0] ||
                                          (row[0] == "[]" && is_index(wanted[0])));
    if (!here && row[0][0] != '[' && row[0][0] != '(') return false;
    if (here) wanted = wanted.subspan(1);
    row = row.subspan(1);
  }
  return wanted.empty();
}

// As people write it in a run file: `method.rank`.
std::string without_alternatives(std::string path) {
  for (size_t open; (open = path.find('(')) != path.npos;) path.erase(open, path.find(')', open) - open + 1);
  return path;
}

[[noreturn]] void refuse(std::string_view path, const std::vector<Row>& rows) {
  std::vector<std::string> paths;
  const bool says_which = path.find('(') != path.npos;
  for (const Row& row : rows) paths.push_back(says_which ? row.info.path : without_alternatives(row.info.path));
  std::string hint = did_you_mean(path, paths);
  for (const std::string& candidate : paths) {
    if (hint.empty() && candidate.ends_with(fmt::format(".{}", path))) {
      hint = fmt::format("; did you mean '{}'?", candidate);
    }
  }
  throw Error(ErrorCode::not_found, fmt::format("unknown key '{}'{}", path, hint));
}

}  // namespace

std::vector<FieldInfo> flat_fields(const Schema& schema, bool with_sections) {
  std::vector<FieldInfo> infos;
  for (Row& row : listed(schema)) {
    if (with_sections || !row.section) infos.push_back(std::move(row.info));
  }
  return infos;
}

FieldInfo explain_field(const Schema& schema, std::string_view path) {
  const std::vector<Row> rows = listed(schema);
  const std::vector<std::string> wanted = tokens(path);
  const Row* found = nullptr;
  for (const Row& row : rows) {
    if (!matches(tokens(row.info.path), wanted)) continue;
    if (!found || (row.by_default && !found->by_default)) found = &row;
  }
  if (!found) refuse(path, rows);
  return found->info;
}

}  // namespace emulsion::config
