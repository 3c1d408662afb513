// Every input of corpus/ through its target, without libFuzzer: seeds, and what was once found.
#include <time.h>

#include <set>

#include "fuzz/targets.h"
#include "io/atomic_file.h"
#include "support/support.h"

namespace emulsion::fuzz {
namespace {

namespace fs = std::filesystem;

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

TEST(FuzzCorpusTest, EveryInputIsHandledInLessThanASecond) {
  for (const Target& target : targets()) {
    const fs::path folder = test::source_dir() / "tests" / "fuzz" / "corpus" / target.name;
    target.run("");  // and what is loaded once
    size_t inputs = 0;
    for (const auto& entry : fs::directory_iterator(folder)) {
      SCOPED_TRACE(entry.path().string());
      const std::string input = io::read_file(entry.path());
      const double before = thread_seconds();
      EXPECT_NO_THROW(target.run(input));
      EXPECT_LT(thread_seconds() - before, 1);
      ++inputs;
    }
    EXPECT_GT(inputs, 0u) << folder;
  }
}

TEST(FuzzCorpusTest, EveryFolderHasATarget) {
  std::set<std::string> names;
  for (const Target& target : targets()) names.insert(std::string(target.name));
  for (const auto& entry :
       fs::directory_iterator(test::source_dir() / "tests" / "fuzz" / "corpus")) {
    EXPECT_TRUE(names.contains(entry.path().filename().string())) << entry.path();
  }
}

}  // namespace
}  // namespace emulsion::fuzz
