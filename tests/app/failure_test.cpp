#include "failure.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <new>

namespace emulsion::app {
namespace {

int code_of(const std::function<int()>& work) {
  ::testing::internal::CaptureStderr();
  const int code = run_guarded(work, false);
  ::testing::internal::GetCapturedStderr();
  return code;
}

std::string stderr_of(const std::function<int()>& work) {
  ::testing::internal::CaptureStderr();
  run_guarded(work, false);
  return ::testing::internal::GetCapturedStderr();
}

TEST(FailureTest, EveryKindHasItsExitCode) {
  const std::pair<ErrorCode, int> expected[] = {
      {ErrorCode::config, 2},    {ErrorCode::io, 3},
      {ErrorCode::format, 4},    {ErrorCode::shape, 5},
      {ErrorCode::not_found, 6}, {ErrorCode::unsupported, 7},
      {ErrorCode::numeric, 8},   {ErrorCode::out_of_memory, 9},
      {ErrorCode::internal, 70}, {ErrorCode::cancelled, 75}};
  for (const auto& [kind, code] : expected) {
    EXPECT_EQ(code_of([kind = kind]() -> int { throw Error(kind, "x"); }), code) << to_string(kind);
  }
}

TEST(FailureTest, WorkThatReturnsKeepsItsCode) {
  EXPECT_EQ(code_of([] { return 0; }), 0);
  EXPECT_EQ(code_of([] { return 3; }), 3);
}

TEST(FailureTest, LackOfMemoryIsNamedAndHasARemedy) {
  const auto work = []() -> int { throw std::bad_alloc(); };
  EXPECT_EQ(code_of(work), 9);
  EXPECT_NE(stderr_of(work).find("hint: use a smaller batch_size"), std::string::npos);
}

TEST(FailureTest, AnErrorOfLibTorchIsOneReadableLine) {
  const auto work = []() -> int {
    at::mm(at::ones({2, 3}), at::ones({2, 3}));
    return 0;
  };
  EXPECT_EQ(code_of(work), 70);
  const std::string text = stderr_of(work);
  EXPECT_TRUE(text.starts_with("error: LibTorch: mat1 and mat2")) << text;
  EXPECT_EQ(text.find("#0"), std::string::npos) << text;
}

TEST(FailureTest, UnknownExceptionsAreInternal) {
  EXPECT_EQ(code_of([]() -> int { throw std::runtime_error("x"); }), 70);
  EXPECT_EQ(code_of([]() -> int { throw 3; }), 70);
}

TEST(FailureTest, TheRemedyStandsOnALineOfItsOwn) {
  EXPECT_EQ(failure_text(Error(ErrorCode::io, "a.txt: cannot read; give a file"), false),
            "error: a.txt: cannot read\nhint: give a file\n");
  EXPECT_EQ(failure_text(Error(ErrorCode::io, "plain"), false), "error: plain\n");
}

TEST(FailureTest, ContextStaysBetweenWhatAndRemedy) {
  Error error(ErrorCode::format, "broken; remove it");
  error.add_context("loading a.safetensors");
  EXPECT_EQ(failure_text(error, false),
            "error: broken\n  while loading a.safetensors\nhint: remove it\n");
}

TEST(FailureTest, SeveralProblemsStayTogether) {
  const std::string problems = "a.toml:1:1: x; did you mean 'y'?\na.toml:2:1: z; did you mean 'w'?";
  EXPECT_EQ(failure_text(Error(ErrorCode::config, problems), false), "error: " + problems + "\n");
}

TEST(FailureTest, AWishOfTheUserIsNoError) {
  EXPECT_EQ(failure_text(Error(ErrorCode::cancelled, "stopped after step 3"), false),
            "stopped after step 3\n");
}

}  // namespace
}  // namespace emulsion::app
