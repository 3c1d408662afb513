// The table of modules, as CMakeLists.txt declares it.
#pragma once

#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "structure/sources.h"

namespace emulsion::structure {

/// Modules in the order of CMakeLists.txt, each with what it names after DEPENDS.
struct ModuleTable {
  std::vector<std::string> order;
  std::map<std::string, std::set<std::string>> depends;

  /// What a module may include: itself, and everything below what it depends on.
  std::set<std::string> reachable(const std::string& module) const {
    std::set<std::string> seen = {module};
    std::vector<std::string> open = {module};
    while (!open.empty()) {
      const std::string name = open.back();
      open.pop_back();
      const auto it = depends.find(name);
      if (it == depends.end()) continue;
      for (const std::string& next : it->second) {
        if (seen.insert(next).second) open.push_back(next);
      }
    }
    return seen;
  }
};

/// Reads the lines emulsion_module(<name> DEPENDS <modules> LINKS <targets>).
inline ModuleTable parse_modules(const std::string& cmake) {
  static const std::regex kComment("#[^\n]*");
  static const std::regex kCall(R"(emulsion_module\(([^)]*)\))");
  const std::string text = std::regex_replace(cmake, kComment, "");
  ModuleTable table;
  for (std::sregex_iterator it(text.begin(), text.end(), kCall), end; it != end; ++it) {
    std::istringstream words((*it)[1].str());
    std::string name, part;
    words >> name;
    table.order.push_back(name);
    auto& depends = table.depends[name];
    for (std::string word; words >> word;) {
      if (word == "DEPENDS" || word == "LINKS") {
        part = word;
      } else if (part == "DEPENDS") {
        depends.insert(word);
      }
    }
  }
  return table;
}

inline ModuleTable project_modules() { return parse_modules(read(root() / "CMakeLists.txt")); }

}  // namespace emulsion::structure
