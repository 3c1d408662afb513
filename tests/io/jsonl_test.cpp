#include "io/jsonl.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/atomic_file.h"
#include "support/support.h"

namespace emulsion::io {
namespace {

using test::TempFolder;

TEST(JsonlTest, WritesOneObjectALineInTheGivenOrder) {
  EXPECT_EQ(
      json_line(
          {{"step", int64_t{3}}, {"loss", 0.125}, {"name", std::string("a\"\n")}, {"ok", true}}),
      R"({"step":3,"loss":0.125,"name":"a\"\n","ok":true})");
  EXPECT_EQ(json_line({}), "{}");
}

TEST(JsonlTest, NumbersReadBackExactlyAndTheRestIsNull) {
  for (const double value :
       {0.1, 1.0 / 3, 1e-300, 5e-324, 1.7976931348623157e308, -0.0, 123456789.125}) {
    const auto object = nlohmann::json::parse(json_line({{"x", value}}));
    EXPECT_EQ(object["x"].get<double>(), value);
  }
  const auto whole = nlohmann::json::parse(json_line({{"x", int64_t{INT64_MIN}}}));
  EXPECT_EQ(whole["x"].get<int64_t>(), INT64_MIN);
  EXPECT_EQ(json_line({{"a", std::nan("")}, {"b", INFINITY}, {"c", -INFINITY}}),
            R"({"a":null,"b":null,"c":null})");
  EXPECT_NO_THROW(nlohmann::json::parse(json_line({{"x", std::string("\xff")}})));
}

TEST(JsonlTest, AppendsOrBeginsAnew) {
  TempFolder folder;
  JsonlWriter(folder / "logs/x.jsonl").write({{"step", int64_t{1}}});
  JsonlWriter writer(folder / "logs/x.jsonl");
  writer.write({{"step", int64_t{2}}});
  EXPECT_EQ(read_file(folder / "logs/x.jsonl"), "{\"step\":1}\n{\"step\":2}\n");
  JsonlWriter(folder / "logs/x.jsonl", JsonlWriter::Mode::truncate);
  EXPECT_EQ(read_file(folder / "logs/x.jsonl"), "");
}

TEST(JsonlTest, ReportsAFullDisk) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  JsonlWriter writer("/dev/full");
  const std::string message = test::error_message([&] { writer.write({{"step", int64_t{1}}}); });
  EXPECT_NE(message.find("disk full"), std::string::npos) << message;
}

int64_t truncated(const std::filesystem::path& path, const std::string& text, int64_t last_step) {
  std::ofstream(path, std::ios::binary) << text;
  return truncate_jsonl_after(path, last_step);
}

TEST(JsonlTest, DropsLaterStepsAndATornLine) {
  TempFolder folder;
  const auto path = folder / "x.jsonl";
  EXPECT_EQ(truncated(path,
                      "{\"step\":1}\n{\"event\":\"start\"}\n{\"step\":3}\n{\"step\":2,\"a\":[1]}\n"
                      "{\"step\":4}\n{\"st",
                      2),
            3);
  EXPECT_EQ(read_file(path), "{\"step\":1}\n{\"event\":\"start\"}\n{\"step\":2,\"a\":[1]}\n");
  EXPECT_EQ(truncate_jsonl_after(path, 2), 0);
}

TEST(JsonlTest, KeepsStepsThatAreNotWholeNumbers) {
  TempFolder folder;
  EXPECT_EQ(truncated(folder / "x", "{\"step\":\"9\"}\n{\"step\":9.5}\n[9]\n", 2), 0);
}

TEST(JsonlTest, DropsALastLineThatADiskErrorZeroed) {
  TempFolder folder;
  const auto path = folder / "x.jsonl";
  EXPECT_EQ(truncated(path, "{\"step\":1}\n" + std::string(5, '\0') + "\n", 2), 1);
  EXPECT_EQ(read_file(path), "{\"step\":1}\n");
}

TEST(JsonlTest, NamesABrokenLineInTheMiddle) {
  TempFolder folder;
  const std::string message =
      test::error_message([&] { truncated(folder / "x.jsonl", "{}\noops\n{}\n", 2); });
  EXPECT_NE(message.find("x.jsonl:2:"), std::string::npos) << message;
  EXPECT_EQ(read_file(folder / "x.jsonl"), "{}\noops\n{}\n");
  EXPECT_EQ(truncate_jsonl_after(folder / "none.jsonl", 2), 0);
  EXPECT_FALSE(std::filesystem::exists(folder / "none.jsonl"));
}

}  // namespace
}  // namespace emulsion::io
