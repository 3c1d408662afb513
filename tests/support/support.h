// What tests share: where golden files lie, closeness in the project's sense, folders that vanish.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "core/tensor.h"

namespace emulsion::test {

/// Under the sanitizers, limits of time and memory say nothing.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// The project's root folder.
std::filesystem::path source_dir();

/// tests/golden/<name>
std::filesystem::path golden(const std::string& name);

/// Succeeds when max|actual - expected| <= tolerance * max|expected| (relative to the tensor's largest value)
/// and the shapes agree; the message gives both and the worst position.
::testing::AssertionResult close(const Tensor& actual, const Tensor& expected, double tolerance);

/// A fresh folder, removed with everything in it at the end of its life.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// The message of the Error that `f` throws; fails the test (and returns "") if it throws none.
std::string error_message(const std::function<void()>& f);

/// Fails the test for every piece that `text` lacks.
void expect_contains(const std::string& text, std::initializer_list<std::string> pieces);

}  // namespace emulsion::test
