#include "io/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/error.h"
#include "io/file_error.h"
#include "support/support.h"

namespace emulsion::io {
namespace {

using test::TempFolder;
using ::testing::Test;

size_t count_files(const std::filesystem::path& folder) {
  const std::filesystem::directory_iterator files(folder);
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

// Lowers the largest file size for this process, and restores it.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    handler_ = ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit lowered{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &lowered);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(AtomicFileTest, WritesAndReadsBackBytesInNewFolders) {
  TempFolder folder;
  const std::string bytes("a\0b\nc", 5);
  write_file_atomic(folder / "new/deeper/file.bin", bytes);
  EXPECT_EQ(read_file(folder / "new/deeper/file.bin"), bytes);
  EXPECT_EQ(count_files(folder / "new/deeper"), 1u);
}

TEST(AtomicFileTest, ReplacesOnlyAtCommit) {
  TempFolder folder;
  write_file_atomic(folder / "x", "old");
  AtomicFile file(folder / "x");
  file.write("ne");
  file.write("w");
  EXPECT_EQ(read_file(folder / "x"), "old");
  file.commit();
  EXPECT_EQ(read_file(folder / "x"), "new");
  EXPECT_THROW(file.write("more"), Error);
}

TEST(AtomicFileTest, LeavesNothingBehindWithoutCommit) {
  TempFolder folder;
  {
    AtomicFile file(folder / "x");
    file.write("half");
    EXPECT_EQ(count_files(folder.path()), 1u);
  }
  EXPECT_EQ(count_files(folder.path()), 0u);
}

TEST(AtomicFileTest, KeepsTheOldFileWhenWritingFails) {
  TempFolder folder;
  write_file_atomic(folder / "x", "old");
  {
    const FileSizeLimit limit(1000);
    const std::string message =
        test::error_message([&] { write_file_atomic(folder / "x", std::string(5000, 'n')); });
    EXPECT_NE(message.find((folder / "x").string()), std::string::npos) << message;
    EXPECT_NE(message.find("ulimit -f"), std::string::npos) << message;
  }
  EXPECT_EQ(read_file(folder / "x"), "old");
  EXPECT_EQ(count_files(folder.path()), 1u);
}

TEST(AtomicFileTest, SaysHowMuchAFullDiskLacks) {
  const ScopedDescriptor full(::open("/dev/full", O_WRONLY));
  if (full.get() < 0) GTEST_SKIP() << "no /dev/full here";
  try {
    write_fully(full.get(), "/dev/full", "12345", 5, 700);
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_NE(std::string(error.what()).find("disk full: 700 bytes needed"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("run the same command again"), std::string::npos);
  }
}

TEST(AtomicFileTest, RefusesBeforeWritingWhatTheDiskCannotHold) {
  TempFolder folder;
  const std::string message = test::error_message([&] { AtomicFile(folder / "x", 1ull << 60); });
  EXPECT_NE(message.find("1152921504606846976 bytes needed"), std::string::npos) << message;
  EXPECT_EQ(count_files(folder.path()), 0u);
}

TEST(AtomicFileTest, NamesMissingFilesAndFolders) {
  TempFolder folder;
  const std::string missing = test::error_message([&] { read_file(folder / "none"); });
  EXPECT_NE(missing.find((folder / "none").string()), std::string::npos) << missing;
  EXPECT_NE(missing.find("No such file"), std::string::npos) << missing;
  const std::string is_folder = test::error_message([&] { read_file(folder.path()); });
  EXPECT_NE(is_folder.find("got a folder"), std::string::npos) << is_folder;
  EXPECT_THROW(write_file_atomic(folder.path(), "x"), Error);
}

TEST(AtomicFileTest, RefusesAFileWhereAFolderShouldBe) {
  TempFolder folder;
  write_file_atomic(folder / "file", "x");
  const std::string message =
      test::error_message([&] { write_file_atomic(folder / "file/inner", "y"); });
  EXPECT_NE(message.find("file"), std::string::npos) << message;
}

TEST(AtomicFileTest, RefusesReadingANamedPipeInsteadOfHanging) {
  TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THROW(read_file(folder / "pipe"), Error);
}

TEST(AtomicFileTest, RemovesTemporariesOnlyOfWritersThatAreGone) {
  TempFolder folder;
  write_file_atomic(folder / ".a.safetensors.tmp-123-4", "left over");
  write_file_atomic(folder / ".b.tmp-1-", "not ours");
  write_file_atomic(folder / "c.tmp-1-1", "visible, so not ours");
  AtomicFile busy(folder / "busy");
  EXPECT_EQ(remove_stale_temporaries(folder.path()), 1);
  EXPECT_FALSE(std::filesystem::exists(folder / ".a.safetensors.tmp-123-4"));
  EXPECT_EQ(count_files(folder.path()), 3u);
  busy.write("still works");
  busy.commit();
  EXPECT_EQ(read_file(folder / "busy"), "still works");
  EXPECT_EQ(remove_stale_temporaries(folder / "none"), 0);
}

}  // namespace
}  // namespace emulsion::io
