// The documentation names only files that exist, and leaves no module out.
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>

#include "structure/modules.h"

namespace emulsion::structure {
namespace {

std::vector<Source> documents() {
  std::vector<Source> found = sources("docs", {".md"});
  for (const char* name : {"README.md", "CONTRIBUTING.md"}) {
    found.push_back({name, read(root() / name)});
  }
  return found;
}

/// All first groups of a pattern's matches.
std::vector<std::string> matches(const std::string& text, const std::regex& pattern) {
  std::vector<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it) {
    found.push_back((*it)[1].str());
  }
  return found;
}

/// Places like `src/nn/leaf.h`; those with <name>, * or {a,b} stand for many.
std::vector<std::string> places(const std::string& text) {
  static const std::regex kPlace(
      "`((src|apps|tests|tools|configs|data|cmake|docs|bench)/[A-Za-z0-9_./-]+)`");
  return matches(text, kPlace);
}

/// Targets of [text](target) that are files of the project.
std::vector<std::string> links(const std::string& text) {
  static const std::regex kLink(R"(\]\(([^)#]+)(#[^)]*)?\))");
  std::vector<std::string> found = matches(text, kLink);
  std::erase_if(found, [](const std::string& link) { return link.find("://") != link.npos; });
  return found;
}

TEST(DocumentationTest, NamesOnlyFilesThatExist) {
  std::vector<std::string> missing;
  for (const Source& document : documents()) {
    for (const std::string& place : places(document.text)) {
      if (!fs::exists(root() / place)) missing.push_back(document.path + ": `" + place + "`");
    }
    for (const std::string& link : links(document.text)) {
      const fs::path target = (root() / document.path).parent_path() / link;
      if (!fs::exists(target)) missing.push_back(document.path + ": link to " + link);
    }
  }
  expect_none(missing);
}

/// The arrows of a Mermaid diagram: "a --> b & c".
std::map<std::string, std::set<std::string>> arrows(const std::string& text) {
  static const std::regex kArrow(R"(^\s*(\w+)(\[[^\]]*\])? --> ([\w &]+)$)");
  std::map<std::string, std::set<std::string>> found;
  for (const std::string& line : lines_of(text)) {
    std::smatch match;
    if (!std::regex_match(line, match, kArrow)) continue;
    std::istringstream words(match[3].str());
    for (std::string word; words >> word;) {
      if (word != "&") found[match[1]].insert(word);
    }
  }
  return found;
}

TEST(DocumentationTest, ArchitectureDescribesEveryModule) {
  const std::string text = read(root() / "docs/architecture.md");
  for (const std::string& name : project_modules().order) {
    EXPECT_TRUE(text.find("| `" + name + "` |") != text.npos) << "no row for module " << name;
  }
}

TEST(DocumentationTest, DiagramShowsTheDependenciesOfTheBuild) {
  auto shown = arrows(read(root() / "docs/architecture.md"));
  shown.erase("app");
  for (const auto& [module, depends] : project_modules().depends) {
    EXPECT_EQ(shown[module], depends) << "arrows of " << module << " in docs/architecture.md";
  }
}

TEST(DocumentationTest, ReadmeNamesEveryVerb) {
  const std::string text = read(root() / "README.md");
  static const std::regex kVerb("void add_([a-z]+)\\(CLI::App& app\\)");
  const auto verbs = matches(read(root() / "apps/emulsion/verbs.h"), kVerb);
  EXPECT_GE(verbs.size(), 5U);
  for (const std::string& verb : verbs) {
    EXPECT_TRUE(text.find("`" + verb) != text.npos) << "README.md does not name " << verb;
  }
}

TEST(DocumentationRuleTest, ReadsArrows) {
  const auto found = arrows("flowchart TB\n  app[\"apps\"] --> train\n  train --> data & optim\n");
  EXPECT_EQ(found.at("train"), (std::set<std::string>{"data", "optim"}));
  EXPECT_EQ(found.at("app"), std::set<std::string>{"train"});
}

TEST(DocumentationRuleTest, FindsPlacesAndLinks) {
  const std::string text =
      "`src/nn/leaf.h`, `src/<module>/a.h`, `runs/x`, [a](docs/a.md#b), [b](https://x.org/y)";
  EXPECT_EQ(places(text), std::vector<std::string>{"src/nn/leaf.h"});
  EXPECT_EQ(links(text), std::vector<std::string>{"docs/a.md"});
}

}  // namespace
}  // namespace emulsion::structure
