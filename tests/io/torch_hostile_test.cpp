// Files made to harm whoever reads them: each is refused, quickly, and nothing but the file is
// opened.
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <fstream>
#include <regex>
#include <set>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/tensor_file.h"
#include "io/torch_builder.h"
#include "io/torch_hostile_files.h"
#include "support/support.h"

namespace emulsion::io {
namespace {

using namespace emulsion::test;
namespace fs = std::filesystem;

// Not flushed to the disk as files of ours are: hundreds of them.
void write_quickly(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// The largest amount of memory that this process has had so far.
int64_t peak_megabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

TEST(TorchHostileTest, TheFilesAreGoodBeforeSomethingIsMadeWrong) {
  TempFolder folder;
  const std::string body = dict(text("w") + good_tensor());
  write_quickly(folder / "zip.pt", zip_file(body));
  write_quickly(folder / "legacy.pt", legacy_file(dict(text("w") + good_tensor("N"))));
  for (const char* name : {"zip.pt", "legacy.pt"}) {
    EXPECT_TRUE(
        at::equal(open_tensor_file(folder / name).tensor("w"), at::arange(6.f).reshape({2, 3})))
        << name;
  }
}

TEST(TorchHostileTest, PartsOfStoragesAreRead) {
  TempFolder folder;
  const std::string part = storage(6, "0", tuple(text("v") + integer(2) + integer(3)));
  write_quickly(folder / "a.pt", legacy_file(list(tensor(part, 1, {2}, {1}))));
  EXPECT_TRUE(at::equal(open_tensor_file(folder / "a.pt").tensor("0"), at::arange(3.f, 5.f)));
}

TEST(TorchHostileTest, DictsOfPython2AreRead) {
  TempFolder folder;
  const std::string pairs = list(list("U\1w" + good_tensor()) + list("U\1n" + integer(3)));
  write_quickly(folder / "a.pt", zip_file(call(global("collections", "OrderedDict"), pairs)));
  const TensorFile file = open_tensor_file(folder / "a.pt");
  EXPECT_TRUE(at::equal(file.tensor("w"), at::arange(6.f).reshape({2, 3})));
  EXPECT_EQ(file.metadata().at("n"), "3");
}

TEST(TorchHostileTest, EachFileIsRefusedAndTheMessageSaysWhy) {
  const std::vector<HostileFile> files = hostile_files();
  EXPECT_GE(files.size(), 60u);
  RecordProperty("files", static_cast<int>(files.size()));
  TempFolder folder;
  for (size_t i = 0; i < files.size(); ++i) {
    SCOPED_TRACE(files[i].what);
    const fs::path path = folder / fmt::format("bad{}.ckpt", i);
    write_quickly(path, files[i].bytes);
    const double before = thread_seconds();
    const std::string message = error_message([&] { open_tensor_file(path); });
    if (!kSanitized) {
      EXPECT_LT(thread_seconds() - before, 1) << message;
    }
    EXPECT_LT(message.size(), 2000u);
    for (const std::string& part : files[i].said) {
      EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks: " << part;
    }
    fs::remove(path);
  }
  if (!kSanitized) {
    EXPECT_LT(peak_megabytes(), 512 + 512) << "what LibTorch takes by itself, and 512 MB";
  }
}

TEST(TorchHostileTest, TheByteOfAGlobalIsItsPlaceInTheFile) {
  TempFolder folder;
  const std::string bytes =
      zip_file(dict(text("w") + good_tensor() + text("x") + global("os", "system")));
  write_quickly(folder / "bad.ckpt", bytes);
  const std::string message = error_message([&] { open_tensor_file(folder / "bad.ckpt"); });
  EXPECT_NE(message.find(fmt::format("byte {}: ", bytes.find("cos\nsystem"))), std::string::npos)
      << message;
}

// --- Under strace
// ----------------------------------------------------------------------------------

constexpr const char* kBegin = "/emulsion-reading-begins";
constexpr const char* kEnd = "/emulsion-reading-ends";
constexpr const char* kFolderVariable = "EMULSION_TRACED_FOLDER";

/// Runs in a process of its own, traced; the two names mark the stretch that counts.
TEST(TorchHostileTest, DISABLED_ReadsAFolder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(std::getenv(kFolderVariable)))
    paths.push_back(entry.path());
  size_t tensors = 0;
  ::access(kBegin, F_OK);
  for (const fs::path& path : paths) {
    try {
      tensors += open_tensor_file(path).tensors().size();
    } catch (const Error&) {
    }
  }
  ::access(kEnd, F_OK);
  EXPECT_GT(tensors, 0u);
}

/// The lines of an strace log between the two marks.
std::vector<std::string> traced_calls(const fs::path& log) {
  std::ifstream stream(log);
  std::vector<std::string> calls;
  bool counts = false;
  for (std::string line; std::getline(stream, line);) {
    if (line.find(kEnd) != line.npos) return calls;
    if (counts) calls.push_back(line);
    counts |= line.find(kBegin) != line.npos;
  }
  ADD_FAILURE() << "the marks are missing in " << log;
  return calls;
}

TEST(TorchHostileTest, ReadingOpensTheFileAndNothingElse) {
  TempFolder folder;
  fs::create_directory(folder / "files");
  size_t count = 0;
  for (const HostileFile& file : hostile_files()) {
    if (file.bytes.size() > 1 << 20) continue;  // the large ones say nothing more
    write_quickly(folder / "files" / fmt::format("{}.ckpt", count++), file.bytes);
  }
  for (const auto& entry : fs::directory_iterator(golden("torch"))) {
    fs::copy(entry.path(), folder / "files");
    ++count;
  }
  const std::string command = fmt::format(
      "{}='{}' ASAN_OPTIONS=detect_leaks=0 strace -f -o '{}' '{}' --gtest_also_run_disabled_tests "
      "--gtest_filter=TorchHostileTest.DISABLED_ReadsAFolder > '{}' 2>&1",
      kFolderVariable, (folder / "files").string(), (folder / "log").string(),
      fs::read_symlink("/proc/self/exe").string(), (folder / "out").string());
  const int status = std::system(command.c_str());
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
      << "strace is installed by ./setup; the container must allow ptrace\n"
      << read_file(folder / "out");

  static std::set<std::string> kHarmless = {"fstat",    "newfstatat", "mmap",  "munmap",
                                                  "mprotect", "madvise",    "close", "brk",
                                                  "futex",    "sched_yield"};
  if (kSanitized) kHarmless.insert("sigaltstack");  // of their own threads
  const std::regex call(R"(^\d+ +(\w+)\((.*))");
  size_t opened = 0;
  for (const std::string& line : traced_calls(folder / "log")) {
    std::smatch match;
    if (!std::regex_search(line, match, call)) continue;  // "<... futex resumed>", "+++ exited"
    if (match[1] == "openat") {
      ++opened;
      EXPECT_NE(line.find((folder / "files").string() + "/"), std::string::npos) << line;
      EXPECT_NE(line.find("O_RDONLY"), std::string::npos) << line;
    } else {
      EXPECT_TRUE(kHarmless.contains(match[1])) << line;
    }
  }
  EXPECT_EQ(opened, count);
}

}  // namespace
}  // namespace emulsion::io
