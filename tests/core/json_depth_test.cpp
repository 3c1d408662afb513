#include "core/json_depth.h"

#include "core/error.h"
#include "support/support.h"

namespace emulsion {
namespace {

TEST(JsonDepthTest, BracketsInTextsDoNotCount) {
  const std::string brackets(1000, '[');
  EXPECT_NO_THROW(check_json_depth("{\"a\": \"" + brackets + "\\\"" + brackets + "\"}", "x.json"));
  EXPECT_NO_THROW(check_json_depth(std::string(100, '[') + std::string(100, ']'), "x.json"));
}

TEST(JsonDepthTest, NamesTheFileAndTheByte) {
  const std::string message =
      test::error_message([] { check_json_depth(" " + std::string(101, '['), "x.json"); });
  EXPECT_NE(message.find("[x.json] byte 101: expected JSON nested at most 100 deep"),
            std::string::npos)
      << message;
}

}  // namespace
}  // namespace emulsion
