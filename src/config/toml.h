// TOML text to value tree. The only place that knows the TOML library.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "config/node.h"

namespace emulsion::config {

/// Throws Error{config} "<file>:<line>:<column>: <what>" for the first syntax error or duplicate
/// key.
Node parse_toml(std::string_view text, std::string_view file);

/// A single TOML value, e.g. `[1, 2]`; nothing if it is not one.
std::optional<Node> parse_toml_value(std::string_view text);

/// The content of a config file. Throws Error{not_found} or Error{io}.
std::string read_config_text(const std::filesystem::path& file);

}  // namespace emulsion::config
