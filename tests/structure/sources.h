// What the structure tests read: the project's own text files, and simple ways to look at them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace emulsion::structure {

namespace fs = std::filesystem;

/// One text file; `path` is relative to the project's root, with forward slashes.
struct Source {
  std::string path;
  std::string text;

  bool is_header() const { return path.ends_with(".h"); }
  /// "src/nn/leaf.h" -> "nn".
  std::string module() const {
    const size_t begin = path.find('/') + 1;
    return path.substr(begin, path.find('/', begin) - begin);
  }
};

inline fs::path root() {
  const char* folder = std::getenv("EMULSION_SOURCE_DIR");
  return folder != nullptr ? fs::path(folder) : fs::current_path();
}

inline std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << "cannot read " << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The files below `folder` (relative to the root) whose names have one of the endings, sorted.
inline std::vector<Source> sources(const std::string& folder,
                                   const std::vector<std::string>& endings = {".h", ".cpp"}) {
  std::vector<Source> found;
  for (const auto& entry : fs::recursive_directory_iterator(root() / folder)) {
    const std::string ending = entry.path().extension().string();
    if (!entry.is_regular_file() || std::ranges::find(endings, ending) == endings.end()) continue;
    found.push_back({fs::relative(entry.path(), root()).generic_string(), read(entry.path())});
  }
  std::ranges::sort(found, {}, &Source::path);
  return found;
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// The text with comments and the insides of string and character literals blanked; lines stay.
inline std::string code_of(const std::string& text) {
  std::string code = text;
  size_t i = 0;
  const auto blank_to = [&](size_t end) {
    for (; i < std::min(end, text.size()); ++i) {
      if (text[i] != '\n') code[i] = ' ';
    }
  };
  const auto past = [&](const std::string& mark, size_t from) {
    const size_t at = text.find(mark, from);
    return at == text.npos ? text.size() : at + mark.size();
  };
  while (i < text.size()) {
    const std::string_view rest = std::string_view(text).substr(i);
    const bool in_word = i > 0 && (std::isalnum(static_cast<unsigned char>(text[i - 1])) != 0);
    if (rest.starts_with("//")) {
      blank_to(std::min(text.find('\n', i), text.size()));
    } else if (rest.starts_with("/*")) {
      blank_to(past("*/", i + 2));
    } else if (rest.starts_with("R\"")) {
      const std::string mark = text.substr(i + 2, text.find('(', i) - i - 2);
      blank_to(past(")" + mark + "\"", i));
    } else if (rest[0] == '"' || (rest[0] == '\'' && !in_word)) {  // 1'000 is a number
      size_t end = i + 1;
      while (end < text.size() && text[end] != rest[0]) end += text[end] == '\\' ? 2 : 1;
      blank_to(end + 1);
    } else {
      ++i;
    }
  }
  return code;
}

/// Fails the running test with every violation on a line of its own.
inline void expect_none(const std::vector<std::string>& violations) {
  std::string all;
  for (const std::string& violation : violations) all += "\n  " + violation;
  EXPECT_TRUE(violations.empty()) << violations.size() << " violations:" << all;
}

}  // namespace emulsion::structure
