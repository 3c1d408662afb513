#include "nn/pattern.h"

#include <algorithm>

#include "core/error.h"

namespace emulsion::nn {

bool glob_match(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t]) && pattern[p] != '*') {
      ++p, ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<std::string> select(const std::vector<std::string>& patterns,
                                const std::vector<std::string>& names) {
  std::vector<char> taken(names.size(), 0);
  for (const std::string& given : patterns) {
    const bool exclude = !given.empty() && given[0] == '!';
    const std::string_view pattern = std::string_view(given).substr(exclude ? 1 : 0);
    bool any = false;
    for (size_t i = 0; i < names.size(); ++i) {
      if (!glob_match(pattern, names[i])) continue;
      any = true;
      taken[i] = !exclude;
    }
    if (!any) {
      const size_t shown = std::min<size_t>(names.size(), 3);
      throw Error(ErrorCode::not_found,
                  fmt::format("[targets] pattern '{}' matches none of {} layers; they are named like {}",
                              given, names.size(), fmt::join(names.begin(), names.begin() + shown, ", ")));
    }
  }
  std::vector<std::string> selected;
  for (size_t i = 0; i < names.size(); ++i) {
    if (taken[i]) selected.push_back(names[i]);
  }
  return selected;
}

}  // namespace emulsion::nn
