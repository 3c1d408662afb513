#include "models/tokenizer.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/atomic_file.h"
#include "support/support.h"

namespace emulsion::models {
namespace {

using Ids = std::vector<int64_t>;
using test::error_message;
using test::TempFolder;

TEST(TokenizerTest, GivesTheIdsOfClipTokenizer) {
  const auto tokenizer = ClipTokenizer::standard();
  std::ifstream golden(test::golden("tokens.jsonl"));
  int64_t count = 0;
  for (std::string line; std::getline(golden, line); ++count) {
    const auto row = nlohmann::json::parse(line);
    Ids ids = tokenizer.encode(row["text"].get<std::string>());
    ids.insert(ids.begin(), tokenizer.bos());
    ids.push_back(tokenizer.eos());
    ASSERT_EQ(ids, row["ids"].get<Ids>()) << line.substr(0, 300);
  }
  EXPECT_GE(count, 1000);
}

TEST(TokenizerTest, PadsWithTheEndTokenAndCutsAt77) {
  const auto tokenizer = ClipTokenizer::standard();
  EXPECT_EQ(tokenizer.vocab_size(), 49408);
  // transformers: CLIPTokenizer("hello", padding="max_length", max_length=10)
  EXPECT_EQ(tokenizer.encode_padded("hello", 10),
            (Ids{49406, 3306, 49407, 49407, 49407, 49407, 49407, 49407, 49407, 49407}));
  std::string text;
  for (int i = 0; i < 100; ++i) text += "a ";
  const auto ids = tokenizer.encode_padded(text);
  ASSERT_EQ(ids.size(), 77u);
  EXPECT_EQ(ids[0], 49406);
  EXPECT_EQ(ids[75], 320);
  EXPECT_EQ(ids[76], 49407);
}

TEST(TokenizerTest, TruncatedVocabularyKeepsOrdinaryIds) {
  const auto small = ClipTokenizer::truncated(2);  // "i n" and "t h"
  EXPECT_EQ(small.vocab_size(), 516);
  EXPECT_EQ(small.bos(), 514);
  EXPECT_EQ(small.eos(), 515);
  EXPECT_EQ(small.pad(), 515);
  // Letters a.. are 64.., those that end a word 256 more; merge 0 is 512, merge 1 is 513.
  EXPECT_EQ(small.encode("thin in"), (Ids{513, 72, 77 + 256, 72, 77 + 256}));
  EXPECT_EQ(small.encode("tina"), (Ids{83, 512, 64 + 256}));
  EXPECT_THROW(ClipTokenizer::truncated(48895), Error);
}

TEST(TokenizerTest, RefusesTextThatIsNotUtf8WithItsOffset) {
  const auto tokenizer = ClipTokenizer::truncated(10);
  for (const std::string bad :
       {"caf\xe9", "caf\xe9 x", "abc\xff", "abc\xed\xa0\x80", "abc\xc0\x80"}) {
    const auto message = error_message([&] { tokenizer.encode(bad); });
    EXPECT_NE(message.find("offset 3"), std::string::npos) << message;
  }
}

TEST(TokenizerTest, DecodesToWordsWithoutSpecialTokens) {
  const auto tokenizer = ClipTokenizer::standard();
  // transformers: decode(..., skip_special_tokens=True)
  EXPECT_EQ(tokenizer.decode(tokenizer.encode_padded("Hello, WORLD! don't")),
            "hello , world ! don 't");
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("日本 é 👍")), "日本 é 👍");
  EXPECT_THROW(tokenizer.decode(Ids{49408}), Error);
}

TEST(TokenizerTest, SavedFolderGivesTheSameIds) {
  TempFolder folder;
  const auto small = ClipTokenizer::truncated(3000);
  small.save(folder.path());
  const auto loaded = ClipTokenizer::from_folder(folder.path());
  EXPECT_EQ(loaded.vocab_size(), 3514);
  EXPECT_EQ(loaded.bos(), 3512);
  EXPECT_EQ(loaded.eos(), 3513);
  const std::string text = "A photograph of an astronaut, it's <|endoftext|> 4k 漢字 \"quoted\"";
  EXPECT_EQ(loaded.encode(text), small.encode(text));
}

TEST(TokenizerTest, PaddingWithExclamationMarkMakesItASpecialToken) {
  TempFolder folder;
  ClipTokenizer::standard().save(folder.path());
  const auto config = folder / "tokenizer_config.json";
  auto json = nlohmann::json::parse(io::read_file(config));
  json["pad_token"] = "!";
  std::ofstream(config) << json;
  const auto loaded = ClipTokenizer::from_folder(folder.path());
  EXPECT_EQ(loaded.pad(), 0);
  // transformers with pad_token "!" (Stable Diffusion 2): the mark is no longer part of words.
  EXPECT_EQ(loaded.encode("hello!!! world! wow"), (Ids{3306, 0, 0, 0, 1002, 0, 2781}));
  EXPECT_EQ(loaded.encode_padded("hello", 5), (Ids{49406, 3306, 49407, 0, 0}));
}

TEST(TokenizerTest, ReadsTokenizerJsonAlone) {
  TempFolder folder;
  std::ofstream(folder / "tokenizer.json") << R"({
    "model": {"vocab": {"a": 0, "b</w>": 1, "ab</w>": 2, "c": 3, "<|startoftext|>": 4,
                        "<|endoftext|>": 5},
              "merges": [["a", "b</w>"]]},
    "added_tokens": [{"id": 6, "content": "<style>"}]})";
  const auto tokenizer = ClipTokenizer::from_folder(folder.path());
  EXPECT_EQ(tokenizer.vocab_size(), 7);
  EXPECT_EQ(tokenizer.encode("AB<style> cb"), (Ids{2, 6, 3, 1}));
  EXPECT_EQ(tokenizer.encode("z"), (Ids{5})) << "an unknown byte is the end token";
}

TEST(TokenizerTest, FolderErrorsNameFileAndEntry) {
  TempFolder folder;
  const auto load = [&] {
    return error_message([&] { ClipTokenizer::from_folder(folder.path()); });
  };
  EXPECT_NE(load().find("vocab.json and merges.txt"), std::string::npos);
  std::ofstream(folder / "vocab.json") << R"({"a": 0, "<|startoftext|>": 1, "<|endoftext|>": 2})";
  std::ofstream(folder / "merges.txt") << "#version: 0.2\na b\n";
  EXPECT_NE(load().find("merge 1 (\"a b\")"), std::string::npos) << load();
  std::ofstream(folder / "merges.txt") << "#version: 0.2\nab\n";
  EXPECT_NE(load().find("merges.txt:2"), std::string::npos) << load();
  std::ofstream(folder / "vocab.json") << R"({"a": "x"})";
  EXPECT_NE(load().find("'a' is "), std::string::npos) << load();
  std::ofstream(folder / "vocab.json") << R"({"a": )";
  EXPECT_NE(load().find("vocab.json"), std::string::npos) << load();
}

TEST(TokenizerTest, LongTextsBecomeSeveralChunks) {
  const auto tokenizer = ClipTokenizer::standard();
  EXPECT_EQ(tokenizer.encode_chunks(""), (std::vector<Ids>{tokenizer.encode_padded("")}));
  std::string text;
  for (int i = 0; i < 160; ++i) text += "cat ";
  const auto chunks = tokenizer.encode_chunks(text);
  ASSERT_EQ(chunks.size(), 3u);  // 75 + 75 + 10
  for (const auto& chunk : chunks) EXPECT_EQ(chunk.size(), 77u);
  EXPECT_EQ(chunks[1], chunks[0]);
  EXPECT_EQ(chunks[2][10], chunks[0][1]);
  EXPECT_EQ(chunks[2][11], tokenizer.eos());
}

TEST(TokenizerTest, ChunksEndAfterACommaNearTheEnd) {
  constexpr int64_t kComma = 7;
  Ids ids(100, 1);
  ids[60] = kComma;
  EXPECT_EQ(chunk_ends(ids, 75, kComma), (std::vector<size_t>{61, 100}));
  ids[75] = kComma;  // the phrase ends exactly at the border
  EXPECT_EQ(chunk_ends(ids, 75, kComma), (std::vector<size_t>{75, 100}));
  ids[75] = 1;
  ids[60] = 1;
  ids[54] = kComma;  // more than 20 ids back
  EXPECT_EQ(chunk_ends(ids, 75, kComma), (std::vector<size_t>{75, 100}));
  EXPECT_EQ(chunk_ends(Ids(75, 1), 75, kComma), (std::vector<size_t>{75}));
  EXPECT_EQ(chunk_ends(Ids{}, 75, kComma), (std::vector<size_t>{0}));
}

}  // namespace
}  // namespace emulsion::models
