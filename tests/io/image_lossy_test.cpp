// JPEG and WebP with a comment; comments of other programs. That other programs read ours is shown in tests/interop.
#include "io/image_lossy.h"

#include "core/random.h"
#include "io/atomic_file.h"
#include "io/exif_comment.h"
#include "io/image.h"
#include "support/support.h"

namespace emulsion::io {
namespace {

using namespace std::string_literals;

const std::string kText = "a cat, é 雪 😀\nNegative prompt: \"x\"\nSteps: 20";

Tensor gradient() {
  Tensor image = at::empty({24, 33, 3}, at::kByte);
  for (int64_t y = 0; y < 24; ++y) {
    for (int64_t x = 0; x < 33; ++x) image[y][x].copy_(at::tensor({x * 7, y * 10, int64_t{128}}, at::kLong).to(at::kByte));
  }
  return image;
}

double mean_difference(const Tensor& a, const Tensor& b) {
  return (a.to(at::kFloat) - b.to(at::kFloat)).abs().mean().item<double>();
}

TEST(LossyImageTest, PictureAndCommentComeBack) {
  const test::TempFolder folder;
  for (const std::string name : {"a.jpg", "a.webp"}) {
    const auto path = folder.path() / name;
    const Tensor image = gradient();
    write_file_atomic(path, name == "a.jpg" ? encode_jpeg(image, 90, kText) : encode_webp(image, 90, kText));
    EXPECT_LT(mean_difference(read_image(path), image), 4) << name;
    EXPECT_EQ(read_generation_text(path), kText) << name;
    EXPECT_EQ(probe_image(path).format, name == "a.jpg" ? "jpeg" : "webp");
  }
}

TEST(LossyImageTest, WithoutCommentThereIsNone) {
  const test::TempFolder folder;
  write_file_atomic(folder.path() / "a.jpg", encode_jpeg(gradient(), 90));
  write_file_atomic(folder.path() / "a.webp", encode_webp(gradient(), 90));
  write_png(folder.path() / "a.png", gradient(), {{"Title", "x"}});
  for (const char* name : {"a.jpg", "a.webp", "a.png"}) EXPECT_FALSE(read_generation_text(folder.path() / name)) << name;
  write_png(folder.path() / "b.png", gradient(), {{"Title", "x"}, {"parameters", kText}});
  EXPECT_EQ(read_generation_text(folder.path() / "b.png"), kText);
}

TEST(LossyImageTest, QualityMattersAndHundredIsLosslessInWebp) {
  EXPECT_LT(encode_jpeg(gradient(), 20).size(), encode_jpeg(gradient(), 95).size());
  const test::TempFolder folder;
  write_file_atomic(folder.path() / "a.webp", encode_webp(gradient(), 100, kText));
  EXPECT_TRUE(at::equal(read_image(folder.path() / "a.webp"), gradient()));
  EXPECT_EQ(read_generation_text(folder.path() / "a.webp"), kText);
}

TEST(LossyImageTest, WhatTheFormatsCannotHoldIsRefused) {
  const auto message = [](auto&& f) { return test::error_message(f); };
  EXPECT_NE(message([] { encode_jpeg(gradient(), 90, std::string(40'000, 'x')); }).find("at most 65533 bytes"), std::string::npos);
  EXPECT_NE(message([] { encode_webp(at::zeros({1, 20'000, 3}, at::kByte), 90); }).find("20000 x 1"), std::string::npos);
  EXPECT_NE(message([] { encode_jpeg(gradient(), 0); }).find("1 to 100, got 0"), std::string::npos);
  EXPECT_NE(message([] { encode_jpeg(gradient().to(at::kFloat), 90); }).find("uint8"), std::string::npos);
  const test::TempFolder folder;
  write_file_atomic(folder.path() / "a.bmp", "BM");
  EXPECT_NE(message([&] { read_generation_text(folder.path() / "a.bmp"); }), "");
}

/// An EXIF block of two folders, little-endian, with `comment` as the user comment.
std::string little_exif(const std::string& comment) {
  const auto n16 = [](int v) { return std::string{static_cast<char>(v), static_cast<char>(v >> 8)}; };
  const auto n32 = [&](size_t v) { return n16(static_cast<int>(v & 0xffff)) + n16(static_cast<int>(v >> 16)); };
  return "II" + n16(42) + n32(8) + n16(1) + n16(0x8769) + n16(4) + n32(1) + n32(26) + n32(0) + n16(1) + n16(0x9286) + n16(7) +
         n32(comment.size()) + n32(44) + n32(0) + comment;
}

TEST(ExifCommentTest, ReadsEveryCharacterCode) {
  EXPECT_EQ(comment_of_exif(little_exif("ASCII\0\0\0hello"s)), "hello");
  EXPECT_EQ(comment_of_exif(little_exif("\0\0\0\0\0\0\0\0h\xc3\xa9\0\0"s)), "h\xc3\xa9");
  EXPECT_EQ(comment_of_exif(little_exif("UNICODE\0h\0i\0"s)), "hi");
  EXPECT_EQ(comment_of_exif(little_exif("UNICODE\0\0h\0i"s)), "hi");
  EXPECT_EQ(comment_of_exif(little_exif("UNICODE\0\xff\xfeh\0i\0"s)), "hi");
  EXPECT_EQ(comment_of_exif("Exif\0\0"s + little_exif("ASCII\0\0\0x"s)), "x");
  EXPECT_EQ(comment_of_exif(exif_with_comment(kText)), kText);
  EXPECT_EQ(comment_of_exif(exif_with_comment("a\xff")), "a\xef\xbf\xbd");
  EXPECT_EQ(comment_of_exif(exif_with_comment("")), "");
}

TEST(ExifCommentTest, DamagedBlocksHoldNone) {
  const std::string whole = exif_with_comment(kText);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(comment_of_exif(std::string_view(whole).substr(0, size))) << size;
  }
  Stream stream(1, Purpose::augment, 0, 0);
  for (int i = 0; i < 20'000; ++i) {  // nothing but that it returns
    std::string bytes = whole.substr(0, 60);
    for (int64_t n = stream.below(4); n >= 0; --n) bytes[static_cast<size_t>(stream.below(60))] = static_cast<char>(stream.below(256));
    comment_of_exif(bytes);
  }
  EXPECT_FALSE(comment_of_exif("II*\0\x08\0\0\0\xff\xff"s));
}

}  // namespace
}  // namespace emulsion::io
