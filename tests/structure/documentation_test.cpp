// The documentation names only files that exist, and leaves no module out.
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>

#include "structure/sources.h"

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

TEST(DocumentationTest, ArchitectureDescribesEveryModule) {
  const std::string text = read(root() / "docs/architecture.md");
  for (const auto& entry : fs::directory_iterator(root() / "src")) {
    const std::string name = entry.path().filename().string();
    EXPECT_NE(text.find("| `" + name + "` |"), std::string::npos) << "no row for module " << name;
  }
}

TEST(DocumentationTest, ReadmeNamesEveryVerb) {
  const std::string text = read(root() / "README.md");
  static const std::regex kVerb("void add_([a-z]+)\\(CLI::App& app\\)");
  const auto verbs = matches(read(root() / "apps/emulsion/verbs.h"), kVerb);
  EXPECT_GE(verbs.size(), 5U);
  for (const std::string& verb : verbs) {
    EXPECT_NE(text.find("`" + verb), std::string::npos) << "README.md does not name " << verb;
  }
}

TEST(DocumentationRuleTest, FindsPlacesAndLinks) {
  const std::string text =
      "`src/nn/leaf.h`, `src/<module>/a.h`, `runs/x`, [a](docs/a.md#b), [b](https://x.org/y)";
  EXPECT_EQ(places(text), std::vector<std::string>{"src/nn/leaf.h"});
  EXPECT_EQ(links(text), std::vector<std::string>{"docs/a.md"});
}

}  // namespace
}  // namespace emulsion::structure
