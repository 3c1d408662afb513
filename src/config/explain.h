// Says what each field of a schema means: for `config explain`, the reference pages and the web
// form.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/schema.h"

namespace emulsion::config {

struct FieldInfo {
  std::string path;           // `optimizer.lr`, `method(lora).rank`
  std::string type;           // "integer", "list of strings"
  std::string doc;            // with the note, if there is one
  std::string default_value;  // as TOML; "" for a section or a required field
  std::string range;          // "1 to 1024", "more than 0", ""
  std::vector<std::string> choices;
  std::string unit;
  bool required = false;
};

/// Every field in declaration order, a row each; with `with_sections` also a row per table.
std::vector<FieldInfo> flat_fields(const Schema& schema, bool with_sections = false);

/// Throws Error{not_found} with the closest path.
FieldInfo explain_field(const Schema& schema, std::string_view path);

}  // namespace emulsion::config
