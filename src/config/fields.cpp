#include "config/fields.h"

#include "config/suggest.h"
#include "core/error.h"

namespace emulsion::config {
namespace {

using Kind = Schema::Kind;

// TOML cannot write "not set", so a text that is set by default could never be unset.
void check_default(const Field& field) {
  const Kind kind = without_optional(field.type).kind;
  const bool stuck = field.type.kind == Kind::optional &&
                     field.default_value.kind != Node::Kind::null &&
                     (kind == Kind::string || kind == Kind::choice);
  EMULSION_CHECK(
      !stuck, internal,
      "[config] the optional text '{}' has a default and could not be unset; make it a plain text",
      field.name);
}

}  // namespace

FieldHandle Visitor::visit(std::string_view name, void* value, const Codec& codec,
                           std::string_view doc) {
  if (output_) output_->set(name, codec.write(value));
  if (input_) {
    if (const Node* node = input_->find(name)) codec.read(*node, value);
  }
  if (!fields_) return FieldHandle(nullptr);
  EMULSION_CHECK(find_field(*fields_, name) == nullptr, internal,
                 "[config] the field '{}' is declared twice in one struct", name);
  Field& field = fields_->emplace_back();
  field.name = name;
  field.doc = doc;
  field.type = codec.describe(value);
  field.default_value = codec.write(value);
  check_default(field);
  return FieldHandle(&field);
}

namespace detail {

Schema scalar_schema(Kind kind) {
  Schema schema;
  schema.kind = kind;
  return schema;
}

Schema enum_schema(std::vector<std::string> names) {
  Schema schema;
  schema.kind = Kind::choice;
  schema.choices = std::move(names);
  return schema;
}

Schema element_schema(Kind kind, Schema element, bool has_default) {
  Schema schema;
  schema.kind = kind;
  if (!has_default) element.default_type.clear();
  schema.element.push_back(std::move(element));
  return schema;
}

void refuse_enum_value(int64_t value) {
  throw Error(ErrorCode::internal, fmt::format("[config] the enum value {} has no name", value));
}

void refuse_enum_name(std::string_view name, const std::vector<std::string>& names) {
  throw Error(ErrorCode::config,
              fmt::format("expected one of {}, got \"{}\"{}", fmt::join(names, ", "), name,
                          did_you_mean(name, names)));
}

}  // namespace detail
}  // namespace emulsion::config
