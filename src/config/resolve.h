// Checks a value tree against a schema and finds all problems at once.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/override.h"
#include "config/schema.h"

namespace emulsion::config {

/// One thing that is wrong.
struct Problem {
  Place place;
  std::string text;
};

/// Whether a value is written as this type wants it: the kind only, not the limits.
bool accepts(const Schema& schema, const Node& node);

/// Checks `root` and makes it exactly as typed as the schema (integers become numbers where a
/// number is expected, "none" becomes null for an optional). After no problem it can be read into
/// the struct.
std::vector<Problem> resolve(const Schema& schema, Node& root);

/// Throws Error{config} with a line "<place>: <text>" per problem, in the order of the file;
/// nothing without problems.
void throw_problems(std::vector<Problem> problems, std::string_view file);

/// Parses, overrides and resolves. Throws Error{config} with all problems.
Node resolved_toml(const Schema& schema, std::string_view text, std::string_view file,
                   const Overrides& overrides);

}  // namespace emulsion::config
