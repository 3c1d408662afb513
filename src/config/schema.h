// What a config struct looks like, without its C++ type: names, types, documentation, defaults,
// limits.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/node.h"

namespace emulsion::config {

struct Field;

/// One alternative of a variant: a table with `type = "<type>"`.
struct Alternative {
  std::string type;
  std::string doc;
  std::vector<Field> fields;
};

/// The type of one value, with the limits that hold for it.
struct Schema {
  enum class Kind { boolean, integer, number, string, choice, optional, list, map, table, variant };

  Kind kind = Kind::table;
  std::vector<Schema> element;            // exactly one for optional, list and map
  std::vector<Field> fields;              // table, in declaration order
  std::vector<Alternative> alternatives;  // variant
  std::string default_type;  // variant: what a table without `type` means; "" if it must say

  // Limits of a boolean, integer, number, string or choice.
  std::optional<double> min, max, above, below;
  std::vector<std::string> choices;  // empty: any
  std::string unit;
};

/// One field of a table.
struct Field {
  std::string name;
  std::string doc;
  std::string note;
  bool required = false;
  Schema type;
  Node default_value;
};

/// What `v("rank", rank, "...")` returns: adds limits and remarks to a field. On lists, maps and
/// optionals the limits hold for each element. Does nothing while values are read or written.
/// Throws Error{internal} for a limit that the field's type cannot have.
class FieldHandle {
 public:
  explicit FieldHandle(Field* field) : field_(field) {}

  FieldHandle& min(double value);
  FieldHandle& max(double value);
  /// Exclusive lower limit.
  FieldHandle& above(double value);
  /// Exclusive upper limit.
  FieldHandle& below(double value);
  FieldHandle& required();
  FieldHandle& unit(std::string_view text);
  /// The only values that a string or an integer may have.
  FieldHandle& choices(const std::vector<std::string>& values);
  FieldHandle& choices(std::initializer_list<int64_t> values);
  /// A further remark, shown where the documentation is long.
  FieldHandle& note(std::string_view text);

 private:
  Schema& limited(const char* limit, std::initializer_list<Schema::Kind> kinds);

  Field* field_;  // null while values are read or written
};

/// The innermost element type of optionals, lists and maps.
const Schema& leaf(const Schema& schema);
Schema& leaf(Schema& schema);

/// The type inside an optional; any other type itself.
const Schema& without_optional(const Schema& schema);

/// The alternative with that type, or null.
const Alternative* find_alternative(const Schema& variant, std::string_view type);

const Field* find_field(const std::vector<Field>& fields, std::string_view name);

std::vector<std::string> field_names(const std::vector<Field>& fields);
std::vector<std::string> alternative_names(const Schema& variant);

/// For people: "integer", "number, may be unset", "list of strings", "table with a type".
std::string type_text(const Schema& schema);

/// For error messages: "an integer", "a number", "a list", "a table".
std::string expected_text(const Schema& schema);

/// The limits for people: "1 to 1024", "more than 0", "" if there are none. Without the unit.
std::string range_text(const Schema& schema);

}  // namespace emulsion::config
