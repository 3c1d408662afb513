#include "io/tensorboard.h"

#include <cstring>
#include <fstream>

#include "core/error.h"
#include "io/atomic_file.h"
#include "support/support.h"

namespace emulsion::io {
namespace {

using namespace std::string_literals;
using test::TempFolder;

// The data of every record, as far as the framing goes; sums are left to the tests below.
std::vector<std::string> records(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  std::vector<std::string> all;
  for (size_t begin = 0; begin < bytes.size();) {
    uint64_t length = 0;
    std::memcpy(&length, bytes.data() + begin, 8);
    all.push_back(bytes.substr(begin + 12, length));
    begin += 16 + length;
  }
  return all;
}

TEST(Crc32cTest, GivesTheKnownSums) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);    // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);  // RFC 3720, B.4
}

// The bytes were made with tensorboard.summary.writer.record_writer and tensorboard.compat.proto.
TEST(EventWriterTest, WritesTheBytesOfTensorBoardsOwnWriter) {
  TempFolder folder;
  EventWriter writer(folder.path(), -1, "run.tfevents");
  writer.scalar("loss", 300, 0.5, 12.25);
  writer.flush();
  const std::string bytes = read_file(folder / "run.tfevents");
  const std::string record =
      "\x1b\0\0\0\0\0\0\0\x1a\x0d\x9e\x13"
      "\x09\0\0\0\0\0\x80\x28\x40\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\0\0\0\x3f"
      "\x38\x69\x5e\xcc"s;
  ASSERT_GT(bytes.size(), record.size());
  EXPECT_EQ(bytes.substr(bytes.size() - record.size()), record);
}

TEST(EventWriterTest, BeginsWithTheVersionAndThePurge) {
  TempFolder folder;
  { EventWriter writer(folder.path(), 7, "a.tfevents"); }
  const auto all = records(folder / "a.tfevents");
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].substr(9), "\x1a\x0d"s + "brain.Event:2");
  EXPECT_EQ(all[1].substr(9), "\x10\x07\x3a\x02\x08\x01"s);  // step 7, session_log {status: START}
}

TEST(EventWriterTest, WritesPicturesAndText) {
  TempFolder folder;
  EventWriter writer(folder.path());
  writer.image("preview", 1, at::zeros({4, 6, 3}, at::kByte));
  writer.text("prompt", 2, "a cat");
  writer.flush();
  const auto all = records(writer.path());
  ASSERT_EQ(all.size(), 3u);
  EXPECT_NE(all[1].find("\x89PNG\r\n"), std::string::npos);
  EXPECT_NE(all[1].find("\x08\x04\x10\x06\x18\x03"s), std::string::npos);  // height 4, width 6, RGB
  EXPECT_NE(all[2].find("a cat"), std::string::npos);
}

TEST(EventWriterTest, AppendsBehindTheLastWholeRecord) {
  TempFolder folder;
  { EventWriter(folder.path(), -1, "a.tfevents").scalar("x", 1, 1, 0); }
  const auto path = folder / "a.tfevents";
  const std::string whole = read_file(path);
  std::ofstream(path, std::ios::binary | std::ios::app) << whole.substr(0, 20);  // torn
  { EventWriter(folder.path(), -1, "a.tfevents").scalar("x", 2, 1, 0); }
  EXPECT_EQ(records(path).size(), 3u);
  EXPECT_EQ(read_file(path).substr(0, whole.size()), whole);
}

TEST(EventWriterTest, RefusesANameThatTensorBoardIgnores) {
  TempFolder folder;
  EXPECT_THROW(EventWriter(folder.path(), -1, "events.log"), Error);
}

TEST(EventWriterTest, GivesEveryWriterItsOwnFile) {
  TempFolder folder;
  const EventWriter a(folder.path()), b(folder.path());
  EXPECT_NE(a.path(), b.path());
}

}  // namespace
}  // namespace emulsion::io
