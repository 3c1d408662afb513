#include "support/support.h"

#include <cstdlib>

#include "core/error.h"

namespace emulsion::test {

std::filesystem::path source_dir() {
  const char* given = std::getenv("EMULSION_SOURCE_DIR");
  return given ? given : std::filesystem::path(__FILE__).parent_path().parent_path().parent_path();
}

std::filesystem::path golden(const std::string& name) {
  return source_dir() / "tests" / "golden" / name;
}

::testing::AssertionResult close(const Tensor& actual, const Tensor& expected, double tolerance) {
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure()
           << "shape " << actual.sizes() << ", expected " << expected.sizes();
  }
  const Tensor a = actual.detach().to(at::kDouble).contiguous();
  const Tensor e = expected.detach().to(at::kDouble).contiguous();
  if (e.numel() == 0) return ::testing::AssertionSuccess();
  const double scale = e.abs().max().item<double>();
  const Tensor difference = (a - e).abs().flatten();
  const double worst = difference.max().item<double>();
  if (worst <= tolerance * scale) return ::testing::AssertionSuccess();
  const int64_t place = difference.argmax().item<int64_t>();
  return ::testing::AssertionFailure()
         << "largest difference " << worst << " = " << worst / scale << " of the largest value " << scale
         << " (allowed " << tolerance << ") at flat index " << place << ": got "
         << a.flatten()[place].item<double>() << ", expected " << e.flatten()[place].item<double>();
}

TempFolder::TempFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "emulsion-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw Error(ErrorCode::io, "cannot make " + pattern);
  path_ = pattern;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string error_message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "expected an Error, none was thrown";
  return "";
}

void expect_contains(const std::string& text, std::initializer_list<std::string> pieces) {
  for (const std::string& piece : pieces) {
    EXPECT_NE(text.find(piece), std::string::npos) << "'" << piece << "' is not in: " << text;
  }
}

}  // namespace emulsion::test
