// What the program does when disk, folders, files or arguments are not as they should be.
#include <sys/mount.h>
#include <unistd.h>

#include "run/tiny_run_files.h"

namespace emulsion::test {
namespace {

namespace fs = std::filesystem;

/// A disk of two megabytes, where this user may mount one.
class SmallDisk {
 public:
  explicit SmallDisk(fs::path folder) : folder_(std::move(folder)) {
    fs::create_directories(folder_);
    mounted_ = ::geteuid() == 0 && ::mount("tmpfs", folder_.c_str(), "tmpfs", 0, "size=2m") == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  /// Leaves so many bytes free.
  void fill(uint64_t left) const {
    const uint64_t free = fs::space(folder_).available;
    if (free > left) std::ofstream(folder_ / "filler", std::ios::binary) << std::string(free - left, 'x');
  }
  void empty() const { fs::remove(folder_ / "filler"); }

 private:
  fs::path folder_;
  bool mounted_ = false;
};

TEST(DiskTest, AFullDiskIsAnErrorWithARemedyAndTheRunGoesOnOnceThereIsSpace) {
  TinyRuns runs;
  const std::string top = "steps = 60\n", tables = "[checkpoint]\nevery = 10\n";
  const fs::path reference = runs.run_file("autoencoder", "whole", top, tables);
  ASSERT_EQ(run_program({"train", reference.string()}).code, 0);
  const SmallDisk disk(runs / "small");
  const fs::path file = runs.run_file("autoencoder", "small", top, tables);
  const fs::path folder = runs.run_folder("autoencoder", "small");
  {
    Program program({"train", file.string()});
    while (lines_in(folder / "metrics.jsonl") < 12 && program.running()) ::usleep(500);
    program.signal(SIGINT);
    ASSERT_EQ(program.wait().code, 75);
  }
  std::map<fs::path, std::string> states;
  for (const auto& entry : fs::directory_iterator(folder / "checkpoints")) states[entry.path()] = bytes_of(entry.path());
  ASSERT_FALSE(states.empty());
  const uint64_t state_bytes = states.begin()->second.size();
  if (disk.mounted()) disk.fill(state_bytes / 2);
  const std::optional<uint64_t> limit = disk.mounted() ? std::nullopt : std::optional<uint64_t>(state_bytes / 2);
  const Ended full = run_program({"train", file.string()}, limit);
  EXPECT_EQ(full.code, 3) << full.out;
  expect_contains(full.out, {(folder / "checkpoints" / "step-").string(), "hint: "});
  if (disk.mounted()) expect_contains(full.out, {"space"});
  for (const auto& [path, bytes] : states) EXPECT_TRUE(bytes_of(path) == bytes) << path;
  if (disk.mounted()) disk.empty();
  const Ended rest = run_program({"train", file.string()});
  ASSERT_EQ(rest.code, 0) << rest.out;
  expect_same_run(folder, runs.run_folder("autoencoder", "whole"));
}

class FailureTest : public ::testing::Test {
 protected:
  /// The run file of a short autoencoder run.
  std::string run_file(const std::string& top = "") { return runs.run_file("autoencoder", "out", "steps = 3\n" + top); }
  Ended train(std::vector<std::string> settings = {}) {
    std::vector<std::string> arguments = {"train", run_file()};
    for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
    return run_program(arguments);
  }
  TinyRuns runs;
};

TEST_F(FailureTest, ARunFolderThatCannotBeMadeIsNamedWithARemedy) {
  const Ended ended = train({"output=/proc/runs"});
  EXPECT_EQ(ended.code, 3) << ended.out;
  expect_contains(ended.out, {"'/proc/runs/autoencoder'", "hint: ", "--set output="});
}

TEST_F(FailureTest, ARunFolderOfAnotherConfigIsKeptAndTheDifferenceShown) {
  ASSERT_EQ(train().code, 0);
  const std::string before = bytes_of(runs.run_folder("autoencoder", "out") / "metrics.jsonl");
  const Ended ended = train({"optimizer.lr=0.5"});
  EXPECT_EQ(ended.code, 2) << ended.out;
  expect_contains(ended.out, {"optimizer.lr: 0.002 -> 0.5", "--set name="});
  EXPECT_EQ(bytes_of(runs.run_folder("autoencoder", "out") / "metrics.jsonl"), before);
}

TEST_F(FailureTest, AMisspeltKeyIsPlacedAndCorrectedAndNothingIsMade) {
  const Ended ended = run_program({"train", run_file("sede = 5\n")});
  EXPECT_EQ(ended.code, 2) << ended.out;
  expect_contains(ended.out, {".toml:4:1", "'sede'", "seed"});
  const Ended set = train({"optimizer.lrr=1"});
  EXPECT_EQ(set.code, 2) << set.out;
  expect_contains(set.out, {"optimizer.lrr", "optimizer.lr"});
  EXPECT_FALSE(fs::exists(runs / "out"));
}

TEST_F(FailureTest, AFolderWithoutPicturesSaysWhatWasFoundAndWhereItLooked) {
  fs::create_directories(runs / "none" / "deep");
  std::ofstream(runs / "none" / "deep" / "notes.txt") << "text";
  const Ended ended = train({"data.sources.0.path=" + (runs / "none").string()});
  EXPECT_EQ(ended.code, 6) << ended.out;
  expect_contains(ended.out, {(runs / "none").string(), "hint: "});
  const Ended missing = train({"data.sources.0.path=" + (runs / "nowhere").string()});
  EXPECT_EQ(missing.code, 6) << missing.out;
  expect_contains(missing.out, {(runs / "nowhere").string()});
}

TEST_F(FailureTest, PicturesThatCannotTrainAreListedAndTheOthersTrain) {
  const fs::path pictures = runs / "pictures";
  const std::string png = bytes_of(pictures / "p0.png");
  std::ofstream(pictures / "truncated.png", std::ios::binary) << png.substr(0, png.size() / 2);
  std::ofstream(pictures / "empty.png");
  std::ofstream(pictures / "words.jpg") << "These are words, not a picture.";
  std::ofstream(pictures / "renamed.webp", std::ios::binary) << png;
  io::write_png(pictures / "wide.png", at::zeros({1, 30000, 3}, at::kByte));
  fs::copy(pictures / "p1.png", pictures / "latin.png");
  std::ofstream(pictures / "latin.txt", std::ios::binary) << "caf\xe9";
  const Ended ended = train();
  ASSERT_EQ(ended.code, 0) << ended.out;
  expect_contains(ended.out, {"empty.png", "words.jpg", "wide.png", "30000", "latin.txt", "UTF-8"});
  EXPECT_EQ(lines_in(runs.run_folder("autoencoder", "out") / "metrics.jsonl"), 3);
  // `data check` decodes every picture, so it also finds what is cut off.
  const Ended check = run_program({"data", "check", pictures.string()});
  expect_contains(check.out, {"truncated.png", "empty.png", "words.jpg", "wide.png", "latin.txt"});
}

TEST_F(FailureTest, AFinishedRunReturnsAtOnceWithItsResult) {
  ASSERT_EQ(train().code, 0);
  const fs::path folder = runs.run_folder("autoencoder", "out");
  const auto before = fs::last_write_time(folder / "metrics.jsonl");
  const Ended again = train();
  EXPECT_EQ(again.code, 0) << again.out;
  expect_contains(again.out, {"autoencoder is finished", (folder / "model").string()});
  EXPECT_EQ(fs::last_write_time(folder / "metrics.jsonl"), before);
}

TEST_F(FailureTest, ALossThatIsNotFiniteEndsTheRunWithItsStepAndPicture) {
  const Ended ended = train({"optimizer.lr=1e30"});
  EXPECT_EQ(ended.code, 8) << ended.out;
  expect_contains(ended.out, {"step 2", ".png'", "optimizer.lr"});
}

}  // namespace
}  // namespace emulsion::test
