#include "config/schema.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace emulsion::config {
namespace {

using Kind = Schema::Kind;

struct KindText {
  Kind kind;
  const char* one;
  const char* many;
  const char* expected;
};

constexpr KindText kKindTexts[] = {
    {Kind::boolean, "boolean", "booleans", "true or false"},
    {Kind::integer, "integer", "integers", "an integer"},
    {Kind::number, "number", "numbers", "a number"},
    {Kind::string, "string", "strings", "a string"},
    {Kind::choice, "choice", "choices", "a string"},
    {Kind::optional, "optional", "optionals", "a value"},
    {Kind::list, "list", "lists", "a list"},
    {Kind::map, "table", "tables", "a table"},
    {Kind::table, "table", "tables", "a table"},
    {Kind::variant, "table with a type", "tables with a type", "a table"},
};

const KindText& text_of(Kind kind) { return *std::ranges::find(kKindTexts, kind, &KindText::kind); }

std::string nested_text(const Schema& schema, bool many) {
  const KindText& text = text_of(schema.kind);
  const std::string own = many ? text.many : text.one;
  switch (schema.kind) {
    case Kind::optional:
      return nested_text(schema.element.front(), many) + ", may be unset";
    case Kind::list:
      return own + " of " + nested_text(schema.element.front(), true);
    case Kind::map:
      return own + " of " + nested_text(schema.element.front(), true) + " by name";
    default:
      return own;
  }
}

}  // namespace

FieldHandle& FieldHandle::min(double value) {
  if (field_) limited("min", {Kind::integer, Kind::number}).min = value;
  return *this;
}

FieldHandle& FieldHandle::max(double value) {
  if (field_) limited("max", {Kind::integer, Kind::number}).max = value;
  return *this;
}

FieldHandle& FieldHandle::above(double value) {
  if (field_) limited("above", {Kind::integer, Kind::number}).above = value;
  return *this;
}

FieldHandle& FieldHandle::below(double value) {
  if (field_) limited("below", {Kind::integer, Kind::number}).below = value;
  return *this;
}

FieldHandle& FieldHandle::required() {
  if (field_) field_->required = true;
  return *this;
}

FieldHandle& FieldHandle::unit(std::string_view text) {
  if (field_) limited("unit", {Kind::integer, Kind::number}).unit = text;
  return *this;
}

FieldHandle& FieldHandle::choices(const std::vector<std::string>& values) {
  if (field_) limited("choices", {Kind::string}).choices = values;
  return *this;
}

FieldHandle& FieldHandle::choices(std::initializer_list<int64_t> values) {
  if (!field_) return *this;
  Schema& schema = limited("choices", {Kind::integer});
  for (const int64_t value : values) schema.choices.push_back(fmt::format("{}", value));
  return *this;
}

FieldHandle& FieldHandle::note(std::string_view text) {
  if (field_) field_->note = text;
  return *this;
}

Schema& FieldHandle::limited(const char* limit, std::initializer_list<Kind> kinds) {
  Schema& schema = leaf(field_->type);
  EMULSION_CHECK(std::ranges::find(kinds, schema.kind) != kinds.end(), internal,
                 "[config] the field '{}' is a {}, which cannot have .{}()", field_->name,
                 text_of(schema.kind).one, limit);
  return schema;
}

const Schema& leaf(const Schema& schema) {
  return schema.element.empty() ? schema : leaf(schema.element.front());
}

Schema& leaf(Schema& schema) {
  return schema.element.empty() ? schema : leaf(schema.element.front());
}

const Alternative* find_alternative(const Schema& variant, std::string_view type) {
  const auto it = std::ranges::find(variant.alternatives, type, &Alternative::type);
  return it == variant.alternatives.end() ? nullptr : &*it;
}

const Field* find_field(const std::vector<Field>& fields, std::string_view name) {
  const auto it = std::ranges::find(fields, name, &Field::name);
  return it == fields.end() ? nullptr : &*it;
}

std::vector<std::string> field_names(const std::vector<Field>& fields) {
  std::vector<std::string> names;
  for (const Field& field : fields) names.push_back(field.name);
  return names;
}

std::vector<std::string> alternative_names(const Schema& variant) {
  std::vector<std::string> names;
  for (const Alternative& alternative : variant.alternatives) names.push_back(alternative.type);
  return names;
}

const Schema& without_optional(const Schema& schema) {
  return schema.kind == Kind::optional ? schema.element.front() : schema;
}

std::string type_text(const Schema& schema) { return nested_text(schema, false); }

std::string expected_text(const Schema& schema) {
  return text_of(without_optional(schema).kind).expected;
}

std::string range_text(const Schema& schema) {
  const Schema& of = leaf(schema);
  if (of.min && of.max) return fmt::format("{} to {}", *of.min, *of.max);
  std::vector<std::string> parts;
  if (of.min) parts.push_back(fmt::format("at least {}", *of.min));
  if (of.above) parts.push_back(fmt::format("more than {}", *of.above));
  if (of.max) parts.push_back(fmt::format("at most {}", *of.max));
  if (of.below) parts.push_back(fmt::format("less than {}", *of.below));
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace emulsion::config
