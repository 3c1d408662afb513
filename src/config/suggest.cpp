#include "config/suggest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace emulsion::config {
namespace {

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

}  // namespace

int64_t edit_distance(std::string_view a, std::string_view b) {
  const size_t width = b.size() + 1;
  // Three rows of the distance table: i-2, i-1 and i letters of `a`.
  std::vector<int64_t> before(width), above(width), row(width);
  for (size_t j = 0; j < width; ++j) row[j] = static_cast<int64_t>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(before, above);
    std::swap(above, row);
    row[0] = static_cast<int64_t>(i);
    for (size_t j = 1; j < width; ++j) {
      const int64_t replaced = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, replaced});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row.back();
}

std::string closest_name(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string wanted = lower_case(name);
  std::string closest;
  int64_t least = std::max<int64_t>(1, static_cast<int64_t>(name.size()) / 3) + 1;
  for (const std::string& candidate : candidates) {
    const int64_t distance = edit_distance(wanted, lower_case(candidate));
    // A short name is not "close" to one that shares no letter with it.
    if (distance < least && distance < static_cast<int64_t>(candidate.size())) {
      least = distance;
      closest = candidate;
    }
  }
  return closest;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string closest = closest_name(name, candidates);
  return closest.empty() ? "" : fmt::format("; did you mean '{}'?", closest);
}

}  // namespace emulsion::config
