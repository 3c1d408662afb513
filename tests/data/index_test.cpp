#include "data/index.h"

#include <sys/stat.h>

#include "config/config.h"
#include "core/error.h"
#include "core/stop.h"
#include "data/captions.h"
#include "data/picture_checks.h"
#include "data/pictures.h"
#include "io/atomic_file.h"
#include "support/support.h"

namespace emulsion::data {
namespace {

using test::error_message;
using test::TempFolder;

DataConfig config_of(const std::filesystem::path& folder) {
  DataConfig config;
  config.sources = {source_at(folder)};
  return config;
}

std::vector<std::string> ids(const Index& index) {
  std::vector<std::string> out;
  for (const Sample& sample : index.samples) out.push_back(sample.id);
  return out;
}

Sample sample(const Index& index, const std::string& id) {
  for (const Sample& candidate : index.samples) {
    if (candidate.id == id) return candidate;
  }
  throw std::runtime_error("no sample " + id);
}

std::string only_caption(const Index& index, const std::string& id) {
  const auto captions = sample(index, id).captions;
  EXPECT_EQ(captions.size(), 1u);
  return captions.at(0);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(IndexTest, ReadsALeafFolderWithSidecarsAndNames) {
  TempFolder folder;
  write_picture(folder / "b.png", 40, 30);
  write_text(folder / "b.txt", "\xef\xbb\xbf  a red box,\nclose up \r\n");
  write_picture(folder / "a.PNG", 20, 20);
  write_text(folder / "a.caption", "from caption file");
  write_picture(folder / "small_green-cat_(12).png", 20, 20);
  write_picture(folder / "0001.png", 20, 20);
  write_text(folder / "notes.md", "not a picture");
  write_picture(folder / ".hidden/c.png", 20, 20);
  const Index index = scan(config_of(folder.path()));
  EXPECT_EQ(ids(index),
            (std::vector<std::string>{"0001.png", "a.PNG", "b.png", "small_green-cat_(12).png"}));
  EXPECT_EQ(only_caption(index, "b.png"), "a red box,\nclose up");
  EXPECT_EQ(only_caption(index, "a.PNG"), "from caption file");
  EXPECT_EQ(only_caption(index, "small_green-cat_(12).png"), "small green cat");
  EXPECT_EQ(only_caption(index, "0001.png"), "");
  EXPECT_EQ(sample(index, "b.png").width, 40);
  EXPECT_EQ(sample(index, "b.png").height, 30);
  EXPECT_EQ(index.formats.at("png"), 4);
  EXPECT_EQ(index.caption_origins,
            (std::map<std::string, int64_t>{{"sidecar", 2}, {"file name", 1}, {"none", 1}}));
  EXPECT_TRUE(index.problems.empty());
}

TEST(IndexTest, ReadsKohyaFoldersWithRepeats) {
  TempFolder folder;
  write_picture(folder / "10_red cat/1.png", 20, 20);
  write_picture(folder / "10_red cat/2.png", 20, 20);
  write_text(folder / "10_red cat/2.txt", "a cat asleep");
  write_picture(folder / "2_dog/x.png", 20, 20);
  write_picture(folder / "2024 holidays/y.png", 20, 20);
  DataConfig config = config_of(folder.path());
  config.sources[0].repeats = 3;
  const Index index = scan(config);
  EXPECT_EQ(sample(index, "10_red cat/1.png").repeats, 30);
  EXPECT_EQ(only_caption(index, "10_red cat/1.png"), "red cat");
  EXPECT_EQ(only_caption(index, "10_red cat/2.png"), "a cat asleep");
  EXPECT_EQ(sample(index, "2_dog/x.png").repeats, 6);
  EXPECT_EQ(sample(index, "2024 holidays/y.png").repeats, 3);
  EXPECT_EQ(index.draws(), 30 + 30 + 6 + 3);
}

TEST(IndexTest, ReadsImagefolderMetadata) {
  TempFolder folder;
  write_picture(folder / "train/a.png", 20, 20);
  write_picture(folder / "train/b.png", 20, 20);
  write_picture(folder / "train/c d.png", 20, 20);
  write_text(folder / "train/metadata.jsonl",
             "{\"file_name\": \"a.png\", \"text\": \"one\"}\n\n"
             "{\"file_name\": \"b.png\", \"text\": [\"two\", \" three \"], \"label\": 3}\r\n");
  write_text(folder / "metadata.csv",
             "file_name,text\ntrain/c d.png,\"with, comma and \"\"quotes\"\"\"\n");
  const Index index = scan(config_of(folder.path()));
  EXPECT_EQ(only_caption(index, "train/a.png"), "one");
  EXPECT_EQ(sample(index, "train/b.png").captions, (std::vector<std::string>{"two", "three"}));
  EXPECT_EQ(only_caption(index, "train/c d.png"), "with, comma and \"quotes\"");
  EXPECT_EQ(index.caption_origins.at("metadata"), 3);
  EXPECT_TRUE(index.problems.empty());
}

TEST(IndexTest, FixedCaptionPrefixAndTrigger) {
  TempFolder folder;
  write_picture(folder / "a.png", 20, 20);
  write_text(folder / "a.txt", "photo of [trigger] on a chair");
  write_picture(folder / "b.png", 20, 20);
  write_text(folder / "b.txt", "a chair");
  DataConfig config = config_of(folder.path());
  config.sources[0].trigger = "sks";
  EXPECT_EQ(only_caption(scan(config), "a.png"), "photo of sks on a chair");
  EXPECT_EQ(only_caption(scan(config), "b.png"), "sks, a chair");
  config.sources[0].trigger = "";
  config.sources[0].caption = "thing";
  config.sources[0].caption_prefix = "icon of a ";
  EXPECT_EQ(only_caption(scan(config), "b.png"), "icon of a thing");
}

TEST(IndexTest, TemplatesMakeEveryCaptionIntoEachOfThem) {
  TempFolder folder;
  write_picture(folder / "a.png", 20, 20);
  write_text(folder / "a.txt", "red chair");
  DataConfig config = config_of(folder.path());
  config.sources[0].trigger = "sks";
  config.sources[0].templates = {"a photo of [name], [filewords]", "[filewords] by [trigger]", "a picture"};
  EXPECT_EQ(sample(scan(config), "a.png").captions,
            (std::vector<std::string>{"a photo of sks, red chair", "red chair by sks", "sks, a picture"}));
  config.sources[0].templates = {"style"};
  const auto captions = sample(scan(config), "a.png").captions;
  EXPECT_GE(captions.size(), 8u);
  for (const std::string& caption : captions) EXPECT_TRUE(caption.ends_with("style of sks")) << caption;
}

TEST(IndexTest, SeveralSourcesHaveUniqueIds) {
  TempFolder folder;
  write_picture(folder / "x/set/1.png", 20, 20);
  write_picture(folder / "y/set/1.png", 20, 20);
  DataConfig config = config_of(folder / "x/set");
  config.sources.push_back(source_at(folder / "y/set/"));
  EXPECT_EQ(ids(scan(config)), (std::vector<std::string>{"set/1.png", "set#2/1.png"}));
}

TEST(IndexTest, FolderWithoutPicturesSaysWhatWasFound) {
  TempFolder folder;
  write_text(folder / "a.txt", "");
  write_text(folder / "b.txt", "");
  write_text(folder / "data.ZIP", "");
  write_text(folder / "raw/x.psd", "");
  const auto message = error_message([&] { scan(config_of(folder.path())); });
  for (const std::string& part :
       {folder.path().string(), std::string("2 .txt"), std::string("1 .zip"), std::string("1 .psd"),
        std::string("sub-folder raw"), std::string("put the pictures there")}) {
    EXPECT_TRUE(contains(message, part)) << message;
  }
  const auto missing = error_message([&] { scan(config_of(folder / "nowhere")); });
  EXPECT_TRUE(contains(missing, "nowhere") && contains(missing, "relative paths")) << missing;
  const auto file = error_message([&] { scan(config_of(folder / "a.txt")); });
  EXPECT_TRUE(contains(file, "expected a folder")) << file;
  TempFolder empty;
  EXPECT_TRUE(contains(error_message([&] { scan(config_of(empty.path())); }), "an empty folder"));
}

// A folder with one good picture `good.png` and a bad one, `bad.png`.
class BadPictureTest : public ::testing::Test {
 protected:
  BadPictureTest() { write_picture(folder_ / "good.png", 64, 64); }

  // The one problem, after full decoding.
  std::string problem() {
    Index index = scan(config_of(folder_.path()));
    Reporter silent;
    check_pictures(index, silent);
    EXPECT_EQ(ids(index), (std::vector<std::string>{"good.png"}));
    EXPECT_EQ(index.problems.size(), 1u);
    if (index.problems.empty()) return "";
    const std::string text = to_string(index.problems[0]);
    EXPECT_TRUE(contains(text, "bad.")) << text;
    EXPECT_TRUE(contains(text, "left out")) << text;
    return text;
  }

  TempFolder folder_;
};

TEST_F(BadPictureTest, CheckingTellsItsProgressAndCanBeStopped) {
  write_text(folder_ / "bad.png", "");
  write_picture(folder_ / "other.png", 64, 64);
  Index index = scan(config_of(folder_.path()));
  const auto found = static_cast<int64_t>(index.samples.size());
  struct : Reporter {
    void advance(int64_t done, const Figures&) override { told.push_back(done); }
    std::vector<int64_t> told;
  } reporter;
  request_stop();
  EXPECT_TRUE(contains(error_message([&] { check_pictures(index, reporter, {}, 1); }), "stopped while checking"));
  clear_stop();
  EXPECT_EQ(ids(index), (std::vector<std::string>{"good.png"}));  // as far as it came
  index = scan(config_of(folder_.path()));
  reporter.told.clear();
  check_pictures(index, reporter, {}, 1);
  EXPECT_EQ(static_cast<int64_t>(reporter.told.size()), found + 1);
  EXPECT_EQ(reporter.told.back(), found);
}

TEST_F(BadPictureTest, EmptyFile) {
  write_text(folder_ / "bad.png", "");
  EXPECT_TRUE(contains(problem(), "empty"));
}

TEST_F(BadPictureTest, NotAPicture) {
  write_text(folder_ / "bad.jpg", "<html><body>404 not found</body></html>");
  const auto text = problem();
  EXPECT_TRUE(contains(text, "expected")) << text;
}

TEST_F(BadPictureTest, Truncated) {
  TempFolder other;
  io::write_png(other / "whole.png", at::randint(0, 256, {64, 64, 3}, at::kLong).to(at::kByte));
  const auto bytes = io::read_file(other / "whole.png");
  write_text(folder_ / "bad.png", bytes.substr(0, bytes.size() / 2));
  problem();
}

TEST_F(BadPictureTest, TooLarge) {
  write_picture(folder_ / "bad.png", 30000, 2);
  EXPECT_TRUE(contains(problem(), "30000"));
}

TEST_F(BadPictureTest, RenamedPicturesAreReadByContent) {
  write_picture(folder_ / "renamed.jpg", 10, 10);
  const Index index = scan(config_of(folder_.path()));
  EXPECT_EQ(index.samples.size(), 2u);
  EXPECT_EQ(index.formats.at("png"), 2);
}

TEST_F(BadPictureTest, CaptionThatIsNotUtf8) {
  write_picture(folder_ / "bad.png", 10, 10);
  write_text(folder_ / "bad.txt", "caf\xe9 au lait");
  const auto text = problem();
  for (const char* part : {"bad.txt", "0xe9", "offset 3", "UTF-8"}) {
    EXPECT_TRUE(contains(text, part)) << text;
  }
}

TEST(MetadataTest, BadLinesNameFileAndLine) {
  TempFolder folder;
  write_picture(folder / "a.png", 20, 20);
  write_text(folder / "metadata.jsonl",
             "{\"file_name\": \"a.png\", \"text\": \"good\"}\n"
             "{\"file_name\": \"a.png\", \n"
             "{\"text\": \"no name\"}\n"
             "{\"file_name\": \"a.png\"}\n"
             "{\"file_name\": \"gone.png\", \"text\": \"x\"}\n"
             "{\"file_name\": \"a.png\", \"text\": 7}\n"
             "{\"file_name\": \"a.png\", \"text\": \"\xff\"}\n");
  const Index index = scan(config_of(folder.path()));
  EXPECT_EQ(only_caption(index, "a.png"), "good");
  const char* expected[][2] = {
      {"metadata.jsonl:2", "JSON object"}, {"metadata.jsonl:3", "file_name"},
      {"metadata.jsonl:4", "\"text\""},    {"metadata.jsonl:5", "gone.png"},
      {"metadata.jsonl:6", "number"},      {"metadata.jsonl:7", "0xff"}};
  ASSERT_EQ(index.problems.size(), std::size(expected));
  for (size_t i = 0; i < std::size(expected); ++i) {
    const auto text = to_string(index.problems[i]);
    EXPECT_TRUE(contains(text, expected[i][0]) && contains(text, expected[i][1])) << text;
  }
}

TEST(MetadataTest, CsvWithoutItsColumnsIsAProblem) {
  TempFolder folder;
  write_picture(folder / "a.png", 20, 20);
  write_text(folder / "metadata.csv", "file,caption\na.png,x\n");
  const Index index = scan(config_of(folder.path()));
  ASSERT_EQ(index.problems.size(), 1u);
  EXPECT_TRUE(contains(to_string(index.problems[0]), "metadata.csv:1"));
}

TEST(CaptionsTest, NamesBecomeWords) {
  EXPECT_EQ(caption_from_name("red_cat-02"), "red cat");
  EXPECT_EQ(caption_from_name("dog7"), "dog");
  EXPECT_EQ(caption_from_name("a 3d house (2)"), "a 3d house");
  EXPECT_EQ(caption_from_name("00012"), "");
}

TEST(CaptionsTest, Utf8IsCheckedStrictly) {
  EXPECT_EQ(invalid_utf8_offset("añ日👍"), std::nullopt);
  EXPECT_EQ(invalid_utf8_offset(""), std::nullopt);
  for (const std::string bad : {"ab\x80", "ab\xc0\x80", "ab\xe0\x80\x80", "ab\xed\xa0\x80",
                                "ab\xf5", "ab\xf4\x90\x80\x80", "ab\xe6\x97", "ab\xf0\x9f\x91"}) {
    EXPECT_EQ(invalid_utf8_offset(bad), 2u);
  }
}

TEST(DataConfigTest, IsReadFromToml) {
  const auto config = config::from_toml<DataConfig>(
      "resolution = 64\ncrop = \"random\"\n[[sources]]\npath = \"pictures\"\nrepeats = 2\n",
      "run.toml");
  EXPECT_EQ(config.resolution, 64);
  EXPECT_EQ(config.crop, Crop::random);
  ASSERT_EQ(config.sources.size(), 1u);
  EXPECT_EQ(config.sources[0].repeats, 2);
  const auto again = config::from_toml<DataConfig>(config::to_toml(config), "again.toml");
  EXPECT_EQ(config::to_toml(again), config::to_toml(config));
  EXPECT_THROW(config::from_toml<DataConfig>("[[sources]]\nrepeats = 2\n", "run.toml"), Error);
  EXPECT_THROW(config::from_toml<DataConfig>("flip = 1.5\n", "run.toml"), Error);
}

TEST(DataConfigTest, ValidationListsAllProblems) {
  DataConfig config;
  config.background = "white";
  config.crop_size = 600;
  const auto message = error_message([&] { validate(config); });
  for (const char* part : {"data.background", "data.crop_size", "data.crop]", "data.sources"}) {
    EXPECT_TRUE(contains(message, part)) << message;
  }
  EXPECT_EQ(parse_colour("#0a10FF"), (std::array<uint8_t, 3>{10, 16, 255}));
}

}  // namespace
}  // namespace emulsion::data
