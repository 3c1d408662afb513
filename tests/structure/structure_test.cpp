// The rules of the house that a program can check: who includes whom, what headers bring along,
// where printing is allowed, sizes and names. Each rule is a function from sources to violations,
// and is itself tested on a source that breaks it.
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>

#include "structure/modules.h"

namespace emulsion::structure {
namespace {

using Violations = std::vector<std::string>;

constexpr size_t kLongestSource = 400;

struct Include {
  size_t line;
  std::string path;
  bool angled;  // <...>
};

std::vector<Include> includes_of(const Source& source) {
  static const std::regex kInclude(R"rx(^\s*#\s*include\s*([<"])([^>"]+)[>"])rx");
  std::vector<Include> found;
  const auto lines = lines_of(source.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    std::smatch match;
    if (std::regex_search(lines[i], match, kInclude)) {
      found.push_back({i + 1, match[2], match[1] == "<"});
    }
  }
  return found;
}

std::string at(const Source& source, size_t line, const std::string& what) {
  return source.path + ":" + std::to_string(line) + ": " + what;
}

// --- The rules ---------------------------------------------------------------------------------

Violations wrong_directions(const std::vector<Source>& all, const ModuleTable& table) {
  Violations found;
  for (const Source& source : all) {
    const auto allowed = table.reachable(source.module());
    for (const Include& include : includes_of(source)) {
      const std::string module = include.path.substr(0, include.path.find('/'));
      if (!table.depends.contains(module) || allowed.contains(module)) continue;
      found.push_back(at(source, include.line,
                         "module '" + source.module() + "' may not include \"" + include.path +
                             "\": CMakeLists.txt does not let it depend on '" + module + "'"));
    }
  }
  return found;
}

/// Headers may bring the standard library and fmt; tensors come from core/tensor.h alone.
Violations heavy_headers(const std::vector<Source>& all) {
  Violations found;
  for (const Source& source : all) {
    if (!source.is_header()) continue;
    for (const Include& include : includes_of(source)) {
      const std::string& path = include.path;
      const bool standard = path.find_first_of("/.") == path.npos;
      const bool tensor = path.starts_with("ATen/core/") && source.path == "src/core/tensor.h";
      if (!include.angled || standard || path.starts_with("fmt/") || tensor) continue;
      found.push_back(at(source, include.line,
                         "<" + path + "> in a header; include it in the .cpp" +
                             (path.starts_with("ATen/") ? ", and core/tensor.h here" : "")));
    }
  }
  return found;
}

/// torch/torch.h and torch::nn cost many seconds and a gigabyte per file.
Violations heavy_torch(const std::vector<Source>& all) {
  Violations found;
  for (const Source& source : all) {
    for (const Include& include : includes_of(source)) {
      const bool heavy = include.path == "torch/torch.h" || include.path == "torch/all.h" ||
                         include.path == "torch/extension.h" || include.path == "torch/nn.h" ||
                         include.path.starts_with("torch/nn/");
      if (heavy) found.push_back(at(source, include.line, "<" + include.path + "> is forbidden"));
    }
  }
  return found;
}

/// Libraries report through Reporter and log; only the application prints or ends the process.
Violations printing(const std::vector<Source>& all) {
  static const std::regex kPrint(
      R"rx(\b(std::(cout|cerr|clog|print|println)\b|fmt::print\b|(v?f?printf|f?puts|f?putc|putchar|perror|exit|abort|quick_exit)\s*\())rx");
  Violations found;
  for (const Source& source : all) {
    const auto lines = lines_of(code_of(source.text));
    for (size_t i = 0; i < lines.size(); ++i) {
      std::smatch match;
      if (std::regex_search(lines[i], match, kPrint)) {
        found.push_back(at(source, i + 1, "'" + match[1].str() + "' below apps/"));
      }
    }
  }
  return found;
}

Violations silent_headers(const std::vector<Source>& all) {
  Violations found;
  for (const Source& source : all) {
    if (!source.is_header()) continue;
    if (!source.text.starts_with("// ")) {
      found.push_back(
          at(source, 1, "the first line must be a // comment that says what it is for"));
    }
    if (source.text.find("\n#pragma once\n") == std::string::npos) {
      found.push_back(at(source, 1, "no '#pragma once'"));
    }
  }
  return found;
}

Violations grab_bags(const std::vector<Source>& all) {
  static const std::set<std::string> kNames = {"util", "utils",  "utility", "common",
                                               "misc", "helper", "helpers"};
  Violations found;
  for (const Source& source : all) {
    for (const fs::path& part : fs::path(source.path)) {
      if (kNames.contains(part.stem().string())) {
        found.push_back(source.path + ": '" + part.string() + "' says nothing; name the concern");
      }
    }
  }
  return found;
}

Violations long_sources(const std::vector<Source>& all) {
  Violations found;
  for (const Source& source : all) {
    const size_t lines = lines_of(source.text).size();
    if (lines > kLongestSource) {
      found.push_back(source.path + ": " + std::to_string(lines) + " lines; split it at " +
                      std::to_string(kLongestSource));
    }
  }
  return found;
}

/// src/nn holds namespace emulsion::nn; core is emulsion itself.
Violations foreign_namespaces(const std::vector<Source>& all) {
  static const std::regex kNamespace(R"(^namespace (emulsion\S*))");
  Violations found;
  for (const Source& source : all) {
    const std::string module = source.module();
    const std::string expected = module == "core" ? "emulsion" : "emulsion::" + module;
    const auto lines = lines_of(source.text);
    for (size_t i = 0; i < lines.size(); ++i) {
      std::smatch match;
      if (!std::regex_search(lines[i], match, kNamespace)) continue;
      const std::string name = match[1];
      if (name == expected || name.starts_with(expected + "::")) continue;
      found.push_back(at(source, i + 1, "namespace " + name + ", expected " + expected));
    }
  }
  return found;
}

// --- The project obeys them ----------------------------------------------------------------------

TEST(StructureTest, ModulesAreDeclaredLowestFirstAndAreTheFoldersOfSrc) {
  const ModuleTable table = project_modules();
  ASSERT_FALSE(table.order.empty());
  std::set<std::string> declared;
  for (const std::string& name : table.order) {
    for (const std::string& below : table.depends.at(name)) {
      EXPECT_TRUE(declared.contains(below)) << name << " depends on " << below << ", not above it";
    }
    EXPECT_TRUE(declared.insert(name).second) << name << " is declared twice";
  }
  std::set<std::string> folders;
  for (const auto& entry : fs::directory_iterator(root() / "src")) {
    if (entry.is_directory()) folders.insert(entry.path().filename().string());
  }
  EXPECT_EQ(folders, declared);
}

TEST(StructureTest, ModulesIncludeOnlyWhatTheyDependOn) {
  expect_none(wrong_directions(sources("src"), project_modules()));
}

TEST(StructureTest, HeadersStayLight) { expect_none(heavy_headers(sources("src"))); }

TEST(StructureTest, NothingIncludesTheWholeOfTorch) {
  for (const char* folder : {"src", "apps", "tests"}) expect_none(heavy_torch(sources(folder)));
}

TEST(StructureTest, NothingBelowTheApplicationPrintsOrExits) {
  expect_none(printing(sources("src")));
}

TEST(StructureTest, EveryHeaderSaysWhatItIsFor) {
  for (const char* folder : {"src", "apps", "tests"}) expect_none(silent_headers(sources(folder)));
}

TEST(StructureTest, NoFileIsAGrabBag) {
  for (const char* folder : {"src", "apps", "tests"}) expect_none(grab_bags(sources(folder)));
}

TEST(StructureTest, SourcesAreShort) {
  for (const char* folder : {"src", "apps"}) expect_none(long_sources(sources(folder)));
}

TEST(StructureTest, NamespacesEqualModules) { expect_none(foreign_namespaces(sources("src"))); }

// --- The rules find what they forbid -------------------------------------------------------------

const std::string kTable =
    "emulsion_module(core LINKS fmt::fmt)  # not: emulsion_module(ghost)\n"
    "emulsion_module(nn   DEPENDS core)\n"
    "emulsion_module(models DEPENDS nn\n  LINKS zlib)\n";

TEST(StructureRuleTest, ReadsTheModuleTable) {
  const ModuleTable table = parse_modules(kTable);
  EXPECT_EQ(table.order, (std::vector<std::string>{"core", "nn", "models"}));
  EXPECT_EQ(table.depends.at("models"), (std::set<std::string>{"nn"}));
  EXPECT_EQ(table.reachable("models"), (std::set<std::string>{"core", "models", "nn"}));
}

TEST(StructureRuleTest, FindsAnIncludeAgainstTheDirection) {
  const ModuleTable table = parse_modules(kTable);
  const Source up{"src/nn/leaf.h", "// Leaf.\n#include \"models/unet.h\"\n"};
  const Source down{"src/models/unet.cpp", "#include \"core/error.h\"\n#include <vector>\n"};
  EXPECT_EQ(wrong_directions({up, down}, table).size(), 1U);
}

TEST(StructureRuleTest, FindsHeavyIncludes) {
  const auto header = [](const std::string& include) {
    return heavy_headers({{"src/nn/a.h", "#include <" + include + ">\n"}}).size();
  };
  EXPECT_EQ(header("ATen/ATen.h"), 1U);
  EXPECT_EQ(header("ATen/core/Tensor.h"), 1U);
  EXPECT_EQ(header("nlohmann/json.hpp"), 1U);
  EXPECT_EQ(header("toml++/toml.h"), 1U);
  EXPECT_EQ(header("vector"), 0U);
  EXPECT_EQ(heavy_headers({{"src/core/tensor.h", "#include <ATen/core/Tensor.h>\n"}}).size(), 0U);
  EXPECT_EQ(heavy_torch({{"src/nn/a.cpp", "#include <torch/torch.h>\n"}}).size(), 1U);
}

TEST(StructureRuleTest, FindsPrintingButNotInCommentsAndTexts) {
  const auto found = [](const std::string& code) {
    return printing({{"src/nn/a.cpp", code + "\n"}}).size();
  };
  EXPECT_EQ(found("std::printf(\"x\");"), 1U);
  EXPECT_EQ(found("fprintf(stderr, \"x\");"), 1U);
  EXPECT_EQ(found("std::cerr << 1'000'000;"), 1U);
  EXPECT_EQ(found("auto n = 1'000; puts(\"\");"), 1U);
  EXPECT_EQ(found("std::exit(1);"), 1U);
  EXPECT_EQ(found("// printf(x)\n/* std::cout */ auto s = \"printf(\\\"\"; char c = '\"';"), 0U);
  EXPECT_EQ(found("auto s = R\"(printf(\"x\"))\";"), 0U);
  EXPECT_EQ(found("std::snprintf(buffer, 8, \"x\"); _exit(1);"), 0U);
}

TEST(StructureRuleTest, FindsBadFiles) {
  const Source silent{"src/nn/a.h", "#pragma once\n"};
  EXPECT_EQ(silent_headers({silent}).size(), 2U);
  EXPECT_EQ(grab_bags({{"src/nn/utils.cpp", ""}, {"src/common/a.cpp", ""}}).size(), 2U);
  EXPECT_EQ(grab_bags({{"src/nn/utilisation.cpp", ""}}).size(), 0U);
  std::string lines;
  for (size_t i = 0; i < kLongestSource; ++i) lines += "\n";
  EXPECT_EQ(long_sources({{"src/nn/a.cpp", lines}}).size(), 0U);
  EXPECT_EQ(long_sources({{"src/nn/a.cpp", lines + "\n"}}).size(), 1U);
  EXPECT_EQ(foreign_namespaces({{"src/nn/a.cpp", "namespace emulsion::io {\n"}}).size(), 1U);
  EXPECT_EQ(foreign_namespaces({{"src/nn/a.cpp", "namespace emulsion::nn::kernels {\n"}}).size(),
            0U);
}

}  // namespace
}  // namespace emulsion::structure
