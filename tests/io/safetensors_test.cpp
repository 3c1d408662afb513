#include "io/safetensors.h"

#include <cstring>
#include <fstream>

#include "core/error.h"
#include "io/atomic_file.h"
#include "support/support.h"

namespace emulsion::io {
namespace {

using test::TempFolder;

std::string file_bytes(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), 8);
  return bytes + header + data;
}

/// Writes `bytes`, opens the file, and returns the code and the message of the refusal.
std::pair<ErrorCode, std::string> refusal(const std::string& bytes) {
  TempFolder folder;
  std::ofstream(folder / "hostile.safetensors", std::ios::binary) << bytes;
  try {
    const SafetensorsFile file = SafetensorsFile::open(folder / "hostile.safetensors");
    for (const auto& entry : file.entries()) file.tensor(entry.name);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ErrorCode::internal, "accepted"};
}

void expect_refused(const std::string& bytes, const std::string& part,
                    ErrorCode code = ErrorCode::format) {
  const auto [actual, message] = refusal(bytes);
  EXPECT_EQ(actual, code) << message;
  EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks: " << part;
  EXPECT_NE(message.find("hostile.safetensors"), std::string::npos) << message;
}

void expect_header_refused(const std::string& header, const std::string& part,
                           size_t data_size = 8) {
  expect_refused(file_bytes(header, std::string(data_size, '\0')), part);
}

NamedTensors every_dtype() {
  const auto range = [](int64_t n) { return at::arange(n); };
  return {
      {"b.half", at::arange(6).reshape({2, 3}).to(at::kHalf) / 4},
      {"a.half", range(3).to(at::kHalf)},
      {"brain", range(5).to(at::kBFloat16)},
      {"single", range(4).to(at::kFloat) - 1.5},
      {"double", range(2).to(at::kDouble)},
      {"long", range(3) - 1},
      {"int", range(2).to(at::kInt)},
      {"short", range(3).to(at::kShort)},
      {"char", range(3).to(at::kChar) - 1},
      {"byte", range(5).to(at::kByte)},
      {"flag", at::tensor({1, 0, 1}).to(at::kBool)},
      {"scalar", at::scalar_tensor(2.5, at::kFloat)},
      {"empty", at::zeros({0, 4})},
      {"caf\xc3\xa9 \"quoted\"\n", at::ones({1, 1})},
  };
}

TEST(SafetensorsTest, WritesTheBytesOfTheReferenceImplementation) {
  TempFolder folder;
  write_safetensors(folder / "ours", every_dtype(), {{"format", "pt \xc3\xa9"}});
  EXPECT_EQ(read_file(folder / "ours"), read_file(test::golden("images/reference.safetensors")));
}

TEST(SafetensorsTest, ReadsAFileOfTheReferenceImplementation) {
  const auto file = SafetensorsFile::open(test::golden("images/reference.safetensors"));
  const NamedTensors expected = every_dtype();
  EXPECT_EQ(file.entries().size(), expected.size());
  EXPECT_EQ(file.tensors().size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(file.contains(name)) << name;
    EXPECT_TRUE(at::equal(file.tensor(name), tensor)) << name;
    EXPECT_EQ(file.tensor(name).scalar_type(), tensor.scalar_type()) << name;
  }
  EXPECT_EQ(file.metadata().at("format"), "pt \xc3\xa9");
}

TEST(SafetensorsTest, WritesStridedTensorsInLogicalOrder) {
  TempFolder folder;
  const Tensor base = at::arange(2 * 3 * 4 * 5).to(at::kFloat).reshape({2, 3, 4, 5});
  write_safetensors(folder / "x",
                    {{"channels_last", base.contiguous(at::MemoryFormat::ChannelsLast)},
                     {"transposed", base.permute({3, 1, 0, 2})},
                     {"expanded", at::ones({1}).expand({3, 2})},
                     {"sliced", base.slice(3, 1, 5, 2)}});
  const auto file = SafetensorsFile::open(folder / "x");
  EXPECT_TRUE(at::equal(file.tensor("channels_last"), base));
  EXPECT_TRUE(at::equal(file.tensor("transposed"), base.permute({3, 1, 0, 2})));
  EXPECT_TRUE(at::equal(file.tensor("expanded"), at::ones({3, 2})));
  EXPECT_TRUE(at::equal(file.tensor("sliced"), base.slice(3, 1, 5, 2)));
}

TEST(SafetensorsTest, WritesLargeStridedTensorsPieceByPiece) {
  TempFolder folder;
  const Tensor large = at::arange(3 * 2500 * 1000).to(at::kFloat).reshape({3, 2500, 1000});
  write_safetensors(folder / "x", {{"t", large.permute({2, 1, 0})}});
  const auto file = SafetensorsFile::open(folder / "x");
  EXPECT_TRUE(at::equal(file.tensor("t"), large.permute({2, 1, 0})));
}

TEST(SafetensorsTest, TensorsOutliveTheFileAndNeverChangeIt) {
  TempFolder folder;
  write_safetensors(folder / "x", {{"t", at::ones({4})}});
  Tensor tensor, again;
  {
    const auto file = SafetensorsFile::open(folder / "x");
    tensor = file.tensor("t");
    again = file.tensor("t");
    EXPECT_EQ(tensor.data_ptr(), again.data_ptr()) << "expected a view, not a copy";
  }
  tensor.fill_(7);
  EXPECT_EQ(tensor.sum().item<double>(), 28);
  EXPECT_EQ(SafetensorsFile::open(folder / "x").tensor("t").sum().item<double>(), 4);
}

TEST(SafetensorsTest, ReplacesTheFileItReadsFrom) {
  TempFolder folder;
  write_safetensors(folder / "x", {{"t", at::ones({4})}});
  const Tensor tensor = SafetensorsFile::open(folder / "x").tensor("t");
  write_safetensors(folder / "x", {{"t", tensor}, {"u", tensor + 1}});
  EXPECT_EQ(SafetensorsFile::open(folder / "x").tensor("u").sum().item<double>(), 8);
}

TEST(SafetensorsTest, ReadsUnalignedData) {
  TempFolder folder;
  const float values[2] = {1.5f, -2.0f};
  std::string data("\x01", 1);
  data.append(reinterpret_cast<const char*>(values), 8);
  write_file_atomic(folder / "x",
                    file_bytes(R"({"flag":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},)"
                               R"("t":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})",
                               data));
  const Tensor tensor = SafetensorsFile::open(folder / "x").tensor("t");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % 4, 0u);
  EXPECT_TRUE(at::equal(tensor, at::tensor({1.5f, -2.0f})));
}

TEST(SafetensorsTest, ReadsAFileWithoutTensors) {
  TempFolder folder;
  write_safetensors(folder / "x", {});
  EXPECT_TRUE(SafetensorsFile::open(folder / "x").entries().empty());
}

TEST(SafetensorsTest, NamesTheMissingTensor) {
  TempFolder folder;
  write_safetensors(folder / "x", {{"t", at::ones({4})}});
  const auto file = SafetensorsFile::open(folder / "x");
  const std::string message = test::error_message([&] { file.tensor("u"); });
  EXPECT_NE(message.find("'u'"), std::string::npos) << message;
  EXPECT_THROW(SafetensorsFile::open(folder / "none"), Error);
}

TEST(SafetensorsTest, RefusesAFileCutOffAnywhere) {
  TempFolder folder;
  write_safetensors(folder / "x", {{"t", at::ones({3})}, {"u", at::ones({5})}});
  const std::string whole = read_file(folder / "x");
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto [code, message] = refusal(whole.substr(0, size));
    EXPECT_EQ(code, ErrorCode::format) << size << ": " << message;
    EXPECT_NE(message.find("incomplete"), std::string::npos) << size << ": " << message;
  }
}

TEST(SafetensorsTest, SurvivesEveryFlippedByteOfAHeader) {
  TempFolder folder;
  write_safetensors(folder / "x", {{"t", at::ones({3})}, {"u", at::ones({5})}}, {{"a", "b"}});
  const std::string whole = read_file(folder / "x");
  const size_t header_end = whole.size() - 32;
  for (size_t i = 0; i < header_end; ++i) {
    for (const int flip : {0x01, 0x20, 0x80, 0xff}) {
      std::string broken = whole;
      broken[i] = static_cast<char>(broken[i] ^ flip);
      refusal(broken);  // accepted or refused, but neither a crash nor another exception
    }
  }
}

TEST(SafetensorsTest, RefusesTrailingBytes) {
  TempFolder folder;
  write_safetensors(folder / "x", {{"t", at::ones({3})}});
  expect_refused(read_file(folder / "x") + "x", "1 bytes at the end belong to no tensor");
}

TEST(SafetensorsTest, RefusesHeadersLongerThanTheFileOrTheLimit) {
  std::string bytes = file_bytes("{}", "");
  bytes[0] = 100;
  expect_refused(bytes, "expected a header of 100 bytes, got a file of 10");
  bytes[7] = 0x7f;
  expect_refused(bytes, "at most 100000000 bytes");
}

TEST(SafetensorsTest, SaysWhatAnotherFileLooksLike) {
  expect_refused("<!DOCTYPE html><html><body>404</body></html>", "an HTML page");
  expect_refused("version https://git-lfs.github.com/spec/v1\noid", "git lfs pull");
  expect_refused(std::string("PK\x03\x04\0\0\0\0\0\0\0\0\0\0", 14), "PyTorch checkpoint");
}

TEST(SafetensorsTest, RefusesAHeaderThatDoesNotStartWithABrace) {
  expect_refused(file_bytes(" {}", ""), "starts with '{'");
  expect_refused(file_bytes("[]", ""), "starts with '{'");
}

TEST(SafetensorsTest, RefusesAHeaderThatIsNotJson) {
  expect_header_refused("{\"t\":", "not valid JSON");
  expect_header_refused("{} {}", "not valid JSON");
  expect_header_refused("{\"t\xff\":1}", "not valid JSON");
  expect_header_refused(std::string("{}\0", 3), "holds a zero byte");
}

TEST(SafetensorsTest, RefusesOverlappingTensors) {
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("b":{"dtype":"U8","shape":[5],"data_offsets":[3,8]}})",
                        "tensor 'b': expected its data to begin at byte 4, got 3 (it overlaps");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                        R"("b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                        "it overlaps");
}

TEST(SafetensorsTest, RefusesHoles) {
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                        R"("b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                        "there is a hole before it");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[5,8]}})", "a hole");
}

TEST(SafetensorsTest, RefusesShapesThatDoNotFitTheirBytes) {
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
                        "shape [3] of F32 expected 12 bytes, got 8");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}})", "ascending");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[99],"data_offsets":[0,99]}})",
                        "expected data up to byte 99, got 8");
}

TEST(SafetensorsTest, RefusesShapesThatOverflow) {
  // 2^32 * 2^32 = 2^64, which is 0 in 64 bits: exactly the size of the data.
  expect_header_refused(
      R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", "larger", 0);
  expect_header_refused(
      R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", "larger", 0);
  expect_header_refused(
      R"({"a":{"dtype":"F32","shape":[0,9223372036854775807,9],"data_offsets":[0,0]}})", "larger",
      0);
  expect_header_refused(
      R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,8]}})", "below 2^63");
  expect_header_refused(
      R"({"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,8]}})",
      "whole numbers");
}

TEST(SafetensorsTest, RefusesNumbersThatAreNotCounts) {
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[-8],"data_offsets":[0,8]}})", "got -8");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[8.0],"data_offsets":[0,8]}})", "got 8.0");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":["8"],"data_offsets":[0,8]}})", "got \"8\"");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[[8]],"data_offsets":[0,8]}})", "got a list");
}

TEST(SafetensorsTest, RefusesDuplicateKeys) {
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                        R"("a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                        "this name twice");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[8],"shape":[8],"data_offsets":[0,8]}})",
                        "'shape' twice");
  expect_header_refused(R"({"__metadata__":{"k":"1","k":"2"}})", "'k' twice", 0);
}

TEST(SafetensorsTest, RefusesMalformedEntries) {
  expect_header_refused(R"({"a":3})", "an object for every name");
  expect_header_refused(R"({"a":"x"})", "an object for every name");
  expect_header_refused(R"({"a":{}})", "got no dtype");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[8]}})", "got no data_offsets");
  expect_header_refused(R"({"a":{"dtype":"U8","data_offsets":[0,8]}})", "got no shape");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":8,"data_offsets":[0,8]}})", "as lists");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0]}})", "got 1");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,4,8]}})", "got more");
  expect_header_refused(R"({"a":{"dtype":["U8"],"shape":[8],"data_offsets":[0,8]}})", "got a list");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":1}})",
                        "got 'x'");
  expect_header_refused(R"({"__metadata__":{"k":1}})", "got 1", 0);
  expect_header_refused(R"({"__metadata__":{"k":{}}})", "got an object", 0);
  expect_header_refused(R"({"a":null})", "got null");
}

TEST(SafetensorsTest, RefusesDeepNestingAndManyDimensions) {
  std::string deep = "{";
  for (int i = 0; i < 100000; ++i) deep += "\"a\":{";
  expect_header_refused(deep, "expected only dtype");
  std::string shape = "1";
  for (int i = 0; i < 64; ++i) shape += ",1";
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[)" + shape + R"(],"data_offsets":[0,1]}})",
                        "at most 64 dimensions", 1);
}

TEST(SafetensorsTest, RefusesUnknownDtypes) {
  expect_header_refused(R"({"a":{"dtype":"F99","shape":[8],"data_offsets":[0,8]}})", "got 'F99'");
  expect_refused(
      file_bytes(R"({"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}})", std::string(8, '\0')),
      "got C64", ErrorCode::unsupported);
}

TEST(SafetensorsTest, RefusesBooleansOtherThanZeroAndOne) {
  expect_refused(
      file_bytes(R"({"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", "\x01\x02"),
      "expected 0 or 1");
}

TEST(SafetensorsTest, RefusesWritingWhatCannotBeReadBack) {
  TempFolder folder;
  const Tensor t = at::ones({2});
  EXPECT_THROW(write_safetensors(folder / "x", {{"", t}}), Error);
  EXPECT_THROW(write_safetensors(folder / "x", {{"__metadata__", t}}), Error);
  EXPECT_THROW(write_safetensors(folder / "x", {{"a", t}, {"b", t}, {"a", t}}), Error);
  EXPECT_THROW(write_safetensors(folder / "x", {{"a", t}, {"a", t.to(at::kHalf)}}), Error);
  EXPECT_THROW(write_safetensors(folder / "x", {{"\xff", t}}), Error);
  EXPECT_THROW(write_safetensors(folder / "x", {{"a", Tensor()}}), Error);
  EXPECT_THROW(write_safetensors(folder / "x", {{"a", t.to(at::kComplexFloat)}}), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace emulsion::io
