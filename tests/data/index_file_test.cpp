#include "data/index_file.h"

#include <fmt/ranges.h>

#include "core/error.h"
#include "core/stop.h"
#include "data/file_state.h"
#include "data/pictures.h"
#include "io/atomic_file.h"
#include "io/hash.h"
#include "support/support.h"

namespace emulsion::data {
namespace {

using test::TempFolder;

/// How many pictures were looked at.
struct Looks : Reporter {
  void begin(const std::string&, int64_t total, const std::string&, int64_t) override { count += total; }
  int64_t count = 0;
};

std::string told(const Sample& s) {
  return fmt::format("{} {} {} {}x{} x{} {} {} {} {}\n", s.path.string(), s.id, fmt::join(s.captions, "|"), s.width, s.height,
                     s.repeats, s.weight, s.mask.string(), s.content, s.has_alpha);
}

/// Everything of an index that training can see.
std::string told(const Index& index) {
  std::string text;
  for (const Sample& sample : index.samples) text += told(sample);
  for (const Problem& problem : index.problems) text += to_string(problem) + "\n";
  for (const auto& counts : {index.formats, index.caption_origins}) {
    for (const auto& [name, count] : counts) text += fmt::format("{} {}\n", name, count);
  }
  return text;
}

class IndexFileTest : public ::testing::Test {
 protected:
  IndexFileTest() {
    write_picture(pictures() / "a.png", 20, 10, 10);
    write_text(pictures() / "a.txt", "an a");
    write_picture(pictures() / "3_deeper/b.png", 16, 16, 20);
    write_picture(pictures() / "3_deeper/c.png", 16, 16, 30);
    write_text(pictures() / "3_deeper/metadata.jsonl", "{\"file_name\": \"c.png\", \"text\": [\"c\", \"see\"]}\n");
    write_text(pictures() / "bad.png", "not a picture");
    write_picture(pictures() / "bad-caption.png", 16, 16, 40);
    write_text(pictures() / "bad-caption.txt", "caf\xe9");
    write_picture(folder_ / "masks/a.png", 20, 10, 255);
    config_.sources = {source_at(pictures())};
    config_.sources[0].mask = (folder_ / "masks").string();
    settle();
  }

  std::filesystem::path pictures() const { return folder_ / "pictures"; }
  std::filesystem::path file() const { return folder_ / "run/index"; }

  /// As if nothing had been changed for a while; what was changed since the last call gets another time than before.
  void settle() {
    const auto now = std::filesystem::file_time_type::clock::now();
    const auto age = [&](const std::filesystem::path& path) {
      if (now - last_write_time(path) < std::chrono::minutes(1)) last_write_time(path, now - std::chrono::hours(2) + ++seconds_);
    };
    for (const char* part : {"pictures", "masks"}) {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_ / part)) age(entry.path());
      age(folder_ / part);
    }
  }

  /// Opens, saves, and compares with what a start without a file finds. Returns how many pictures were looked at.
  int64_t open() {
    Looks looks, others;
    Index index = open_index(config_, file(), looks);
    EXPECT_EQ(told(index), told(open_index(config_, folder_ / "run/none", others)));
    save_index(index, config_, file());
    EXPECT_TRUE(index.samples.is_in_file());
    EXPECT_EQ(told(index), told(open_index(config_, folder_ / "run/none", others)));
    return looks.count;
  }

  TempFolder folder_;
  DataConfig config_;
  std::chrono::seconds seconds_{0};
};

TEST_F(IndexFileTest, WhatDidNotChangeIsOpenedAsItWas) {
  EXPECT_EQ(open(), 3);
  Looks looks;
  const Index index = open_index(config_, file(), looks);
  EXPECT_TRUE(index.samples.is_in_file());
  EXPECT_EQ(looks.count, 0);
  ASSERT_EQ(index.samples.size(), 3u);
  EXPECT_EQ(index.problems.size(), 4u);  // two pictures are left out, two lack a mask
  EXPECT_EQ(index.samples[0].captions, (std::vector<std::string>{"deeper"}));
  EXPECT_EQ(index.samples[1].captions, (std::vector<std::string>{"c", "see"}));
  EXPECT_EQ(index.samples[2].content, io::sha256_file(pictures() / "a.png"));
  EXPECT_EQ(index.samples[2].mask, folder_ / "masks/a.png");
  EXPECT_EQ(index.draws(), 7);
}

TEST_F(IndexFileTest, EveryChangeIsSeenAndOnlyWhatChangedIsLookedAt) {
  open();
  const auto after = [&](const std::function<void()>& change) {
    change();
    settle();
    return open();
  };
  EXPECT_EQ(after([] {}), 0);
  EXPECT_EQ(after([&] { write_picture(pictures() / "a.png", 20, 10, 11); }), 1);
  EXPECT_EQ(after([&] { write_text(pictures() / "a.txt", "another"); }), 1);
  EXPECT_EQ(after([&] { write_text(pictures() / "3_deeper/b.txt", "a new caption"); }), 1);
  const std::string row = "{\"file_name\": \"c.png\", \"text\": \"sea\"}\n";
  EXPECT_EQ(after([&] { write_text(pictures() / "3_deeper/metadata.jsonl", row); }), 0);
  EXPECT_EQ(after([&] { write_picture(pictures() / "3_deeper/d.png", 8, 8); }), 1);
  EXPECT_EQ(after([&] { std::filesystem::remove(pictures() / "3_deeper/d.png"); }), 0);
  EXPECT_EQ(after([&] { write_picture(folder_ / "masks/a.png", 20, 10, 0); }), 1);
  EXPECT_EQ(after([&] { write_picture(folder_ / "masks/3_deeper/c.png", 16, 16, 0); }), 1);
  EXPECT_EQ(after([&] { write_text(pictures() / "bad-caption.txt", "good"); }), 1);
  EXPECT_EQ(after([&] {
              io::write_png(pictures() / "bad.png", at::zeros({8, 8, 3}, at::kByte));
            }), 1);
  EXPECT_EQ(after([&] { config_.sources[0].repeats = 2; }), 0);
  EXPECT_EQ(after([&] { config_.sources[0].trigger = "zork"; }), 0);
  Looks looks;
  EXPECT_EQ(open_index(config_, file(), looks).samples.size(), 5u);
  EXPECT_EQ(looks.count, 0);
}

TEST_F(IndexFileTest, WhatCannotBeDecodedStaysOutUntilItIsMended) {
  const std::string whole = io::read_file(pictures() / "3_deeper/b.png");
  write_text(pictures() / "3_deeper/b.png", whole.substr(0, whole.size() - 20));
  settle();
  EXPECT_EQ(open(), 3);
  Looks looks;
  EXPECT_EQ(open_index(config_, file(), looks).samples.size(), 2u);
  EXPECT_EQ(looks.count, 0);
  write_text(pictures() / "3_deeper/b.png", whole);
  settle();
  EXPECT_EQ(open(), 1);
  EXPECT_EQ(open_index(config_, file(), looks).samples.size(), 3u);
}

TEST_F(IndexFileTest, WhatWasLookedAtBeforeAStopIsNotLookedAtAgain) {
  Looks looks;
  request_stop();
  const std::string message = test::error_message([&] { open_index(config_, file(), looks, 1); });
  clear_stop();
  EXPECT_NE(message.find("stopped while checking"), std::string::npos) << message;
  EXPECT_EQ(looks.count, 3);
  EXPECT_EQ(open(), 2);
  EXPECT_EQ(open(), 0);
}

// Two changes within a tick of the clock leave the same time.
TEST_F(IndexFileTest, WhatWasChangedJustNowIsNotReliedOn) {
  open();
  write_text(pictures() / "a.txt", "one");
  open();
  const auto time = last_write_time(pictures() / "a.txt");
  write_text(pictures() / "a.txt", "two");
  last_write_time(pictures() / "a.txt", time);
  Looks looks;
  EXPECT_EQ(open_index(config_, file(), looks).samples[2].captions, (std::vector<std::string>{"two"}));
  EXPECT_EQ(file_state(pictures() / "a.txt"), 0u);
}

TEST_F(IndexFileTest, ADamagedFileIsMadeAnew) {
  open();
  const std::string whole = io::read_file(file());
  for (const size_t at : {size_t{0}, size_t{9}, whole.size() / 2, whole.size() - 20, whole.size() - 1}) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    write_text(file(), damaged);
    EXPECT_EQ(open(), 3) << at;
    write_text(file(), whole.substr(0, at));
    EXPECT_EQ(open(), 3) << at;
  }
  EXPECT_EQ(io::read_file(file()), whole);
}

}  // namespace
}  // namespace emulsion::data
