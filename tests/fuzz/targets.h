// What is fed with arbitrary bytes: by libFuzzer (fuzz_main.cpp, built with clang) and, with the
// inputs of corpus/, by an ordinary test.
#pragma once

#include <span>
#include <string_view>

namespace emulsion::fuzz {

struct Target {
  std::string_view name;  // of its folder in corpus/, too
  /// Returns whatever the input is; an Error is as good as a result. Anything else (a sanitizer's
  /// report, another exception, std::abort) is a finding.
  void (*run)(std::string_view input);
};

std::span<const Target> targets();

}  // namespace emulsion::fuzz
