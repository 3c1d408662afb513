#include "io/tensor_file.h"

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"
#include "support/support.h"

namespace emulsion::io {
namespace {

using test::TempFolder;

/// Opens a file of these bytes, which must be refused with `code` and a message with all `parts`.
void expect_refused(const std::string& bytes, const std::vector<std::string>& parts,
                    ErrorCode code = ErrorCode::format) {
  TempFolder folder;
  write_file_atomic(folder / "model.ckpt", bytes);
  try {
    open_tensor_file(folder / "model.ckpt");
    FAIL() << "accepted; expected: " << parts.front();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), code) << message;
    EXPECT_NE(message.find("model.ckpt"), std::string::npos) << message;
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks: " << part;
    }
  }
}

/// A set of two shards and its index in `folder`.
void write_shards(const TempFolder& folder) {
  write_safetensors(folder / "m-00001-of-00002.safetensors", {{"a", at::arange(4)}});
  write_safetensors(folder / "m-00002-of-00002.safetensors",
                    {{"b", at::ones({2, 3})}, {"c", at::zeros({1})}}, {{"format", "pt"}});
  write_file_atomic(folder / "m.safetensors.index.json",
                    R"({"metadata": {"total_size": 60}, "weight_map": {)"
                    R"("a": "m-00001-of-00002.safetensors", "b": "m-00002-of-00002.safetensors",)"
                    R"("c": "m-00002-of-00002.safetensors"}})");
}

std::string shard_refusal(const TempFolder& folder) {
  return test::error_message([&] { open_tensor_file(folder / "m.safetensors.index.json"); });
}

TEST(TensorFileTest, OpensSafetensorsWhateverTheFileIsCalled) {
  TempFolder folder;
  write_safetensors(folder / "x.ckpt", {{"t", at::arange(3)}}, {{"a", "b"}});
  const TensorFile file = open_tensor_file(folder / "x.ckpt");
  EXPECT_EQ(file.format(), "safetensors");
  EXPECT_TRUE(at::equal(file.tensor("t"), at::arange(3)));
  EXPECT_EQ(file.metadata().at("a"), "b");
  EXPECT_EQ(file.find("t")->bytes(), 24u);
  EXPECT_EQ(file.files(), std::vector{folder / "x.ckpt"});
}

TEST(TensorFileTest, AHeaderLengthThatLooksLikeTextIsStillSafetensors) {
  TempFolder folder;
  // 123 is '{', so the file begins as JSON would.
  std::string header = R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  header.resize(123, ' ');
  write_file_atomic(folder / "x", "{" + std::string(7, '\0') + header + "\x05");
  EXPECT_EQ(open_tensor_file(folder / "x").tensor("t").item<int64_t>(), 5);
}

TEST(TensorFileTest, SaysWhatAFileIsThatHoldsNoTensors) {
  expect_refused("", {"empty", "fetch it again"});
  expect_refused("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4265380512\n",
                 {"Git LFS pointer", "git lfs pull"});
  expect_refused("<!DOCTYPE html><html><head><title>Sign in</title>",
                 {"an HTML page", "download failed"});
  expect_refused("\n  <html>", {"an HTML page"});
  expect_refused(std::string(4096, '\0'), {"zero bytes", "fetch it again"});
  expect_refused("GGUF\x03", {"a GGUF model"});
  expect_refused("hello", {"text: \"hello\""});
  expect_refused("{\"error\": \"gated\"}", {"weight_map"});
  expect_refused("{\"weight_map\": {\"a\": ", {"damaged JSON"});
  expect_refused("\x80\x03}q\x00.", {"pickle"});
}

TEST(TensorFileTest, OpensASetOfShards) {
  TempFolder folder;
  write_shards(folder);
  const TensorFile file = open_tensor_file(folder / "m.safetensors.index.json");
  EXPECT_EQ(file.entries().size(), 3u);
  EXPECT_EQ(file.files().size(), 2u);
  EXPECT_TRUE(at::equal(file.tensor("a"), at::arange(4)));
  EXPECT_TRUE(at::equal(file.tensor("b"), at::ones({2, 3})));
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST(TensorFileTest, NamesMissingShards) {
  TempFolder folder;
  write_shards(folder);
  std::filesystem::remove(folder / "m-00002-of-00002.safetensors");
  const std::string message = shard_refusal(folder);
  EXPECT_NE(message.find("expected 2 shards"), std::string::npos) << message;
  EXPECT_NE(message.find("1 missing: m-00002-of-00002.safetensors"), std::string::npos) << message;
}

TEST(TensorFileTest, NamesAShardThatIsCutOff) {
  TempFolder folder;
  write_shards(folder);
  const auto shard = folder / "m-00002-of-00002.safetensors";
  std::filesystem::resize_file(shard, std::filesystem::file_size(shard) - 5);
  const std::string message = shard_refusal(folder);
  EXPECT_NE(message.find(shard.string()), std::string::npos) << message;
  EXPECT_NE(message.find("cut off"), std::string::npos) << message;
}

TEST(TensorFileTest, RefusesShardsThatAreNotOfOneSet) {
  TempFolder folder;
  write_shards(folder);
  write_safetensors(folder / "m-00002-of-00002.safetensors", {{"b", at::ones({2, 3})}});
  EXPECT_NE(shard_refusal(folder).find("'c': expected it in m-00002"), std::string::npos);
  write_safetensors(folder / "m-00001-of-00002.safetensors",
                    {{"a", at::arange(4)}, {"b", at::ones({2, 3})}});
  EXPECT_NE(shard_refusal(folder).find("'b': expected it in m-00002"), std::string::npos);
}

TEST(TensorFileTest, ShardsLieBesideTheirIndex) {
  TempFolder folder;
  for (const char* name : {"../a", "/etc/passwd", "a/b", "..", "", "a\\u0000b"}) {
    write_file_atomic(folder / "m.safetensors.index.json",
                      fmt::format(R"({{"weight_map": {{"a": "{}"}}}})", name));
    EXPECT_NE(shard_refusal(folder).find("a file beside the index"), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace emulsion::io
