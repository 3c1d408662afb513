// "did you mean": the closest of some names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace emulsion::config {

/// Number of insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`; no
/// part of the text is edited twice. Source: optimal string alignment form of Damerau 1964,
/// Levenshtein 1966.
int64_t edit_distance(std::string_view a, std::string_view b);

/// The candidate closest to `name`, ignoring case; "" if none is close (more than a third of the
/// letters differ, at least one edit allowed). The earlier of two equally close ones.
std::string closest_name(std::string_view name, const std::vector<std::string>& candidates);

/// "; did you mean 'x'?" or "".
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace emulsion::config
