// Writes value trees and schemas as text.
#pragma once

#include <string>

#include "config/schema.h"

namespace emulsion::config {

/// A documented TOML file with every field of `root`.
std::string toml_text(const Schema& schema, const Node& root);

/// JSON Schema, draft 2020-12, two spaces of indentation.
std::string schema_json(const Schema& schema);

/// Lines "path: a -> b" where two trees differ.
std::string difference_text(const Node& a, const Node& b);

}  // namespace emulsion::config
