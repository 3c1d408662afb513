// `--set path=value`: edits the value tree before it is bound.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/schema.h"

namespace emulsion::config {

/// Pairs of path and value, applied in order.
using Overrides = std::vector<std::pair<std::string, std::string>>;

/// "optimizer.lr=1e-5" as a pair. Throws Error{config} without a '=' or a path.
std::pair<std::string, std::string> parse_override(std::string_view argument);

/// Sets one value in `root`. `value` is TOML if it reads as the type that `schema` has there, a
/// bare string otherwise; `none` unsets an optional. A number indexes a list (its length appends);
/// `method.type=...` exchanges the whole table, so that the new alternative starts from its
/// defaults. Unknown paths are entered as they are: `resolve` reports them, placed at "--set
/// <path>".
void apply_override(const Schema& schema, Node& root, std::string_view path,
                    std::string_view value);

/// `root` with one override, resolved. Throws Error{config} with all problems.
Node resolved_override(const Schema& schema, Node root, std::string_view path,
                       std::string_view value);

}  // namespace emulsion::config
