// The program as a user meets it: run as a process in a folder, its output and exit code looked at.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "support/support.h"

namespace emulsion::test {

struct Output {
  int code;
  std::string out, err;
};

inline std::string content(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

/// Runs `emulsion <arguments>` in a fresh folder, or in `folder`.
inline Output emulsion(const std::string& arguments, const std::filesystem::path& folder = {}) {
  const char* binary = std::getenv("EMULSION_BINARY");
  if (binary == nullptr) {
    ADD_FAILURE() << "EMULSION_BINARY is not set; run through ctest";
    return {};
  }
  const TempFolder fresh;
  const auto where = folder.empty() ? fresh.path() : folder;
  const std::string command = "cd '" + where.string() + "' && NO_COLOR=1 '" + binary + "' " +
                              arguments + " >'" + (fresh / "out").string() + "' 2>'" +
                              (fresh / "err").string() + "' </dev/null";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, content(fresh / "out"),
          content(fresh / "err")};
}

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline void write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file) << text;
}

}  // namespace emulsion::test
