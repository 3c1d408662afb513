#include "io/image.h"

#include <fstream>
#include <thread>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"
#include "support/support.h"

namespace emulsion::io {
namespace {

using test::TempFolder;

std::filesystem::path fixture(const std::string& name) { return test::golden("images/" + name); }

Tensor expected(const std::string& name) {
  return SafetensorsFile::open(fixture("expected.safetensors")).tensor(name);
}

int64_t worst_difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  if (a.sizes() != b.sizes()) return 999;
  return (a.to(at::kInt) - b.to(at::kInt)).abs().max().item<int64_t>();
}

void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// Smooth colours with some texture, uint8 [H,W,3].
Tensor sample(int64_t height, int64_t width) {
  const Tensor values = at::arange(height * width * 3);
  return (values * 7 % 251 + values / 64 % 5)
      .remainder(256)
      .to(at::kByte)
      .reshape({height, width, 3});
}

struct Case {
  const char* name;
  int64_t tolerance;
};

class ImageFormatTest : public ::testing::TestWithParam<Case> {};

TEST_P(ImageFormatTest, ReadsThePixelsThatPillowReads) {
  const auto [name, tolerance] = GetParam();
  const Tensor pixels = read_image(fixture(name));
  EXPECT_EQ(pixels.scalar_type(), at::kByte);
  EXPECT_LE(worst_difference(pixels, expected(name)), tolerance) << name;
}

// 0 where the format is lossless; decoders and colour engines may round differently elsewhere.
INSTANTIATE_TEST_SUITE_P(
    Formats, ImageFormatTest,
    ::testing::Values(Case{"rgb.png", 0}, Case{"rgb.jpg", 1}, Case{"rgb.webp", 0},
                      Case{"rgb.avif", 2}, Case{"rgb.tif", 0}, Case{"rgb.bmp", 0},
                      Case{"palette.bmp", 0}, Case{"opaque32.bmp", 0}, Case{"bits.bmp", 0},
                      Case{"rgb.jxl", 0}, Case{"palette.png", 0}, Case{"grey.png", 0},
                      Case{"bits.png", 0}, Case{"grey.jpg", 1}, Case{"interlaced.jpg", 1},
                      Case{"rgb16.png", 0}, Case{"grey16.png", 0}, Case{"two_frames.gif", 0},
                      Case{"two_frames.webp", 0}, Case{"two_pages.tif", 0}, Case{"p3.png", 2},
                      Case{"bad_profile.png", 0}),
    [](const auto& info) {
      std::string name = info.param.name;
      std::ranges::replace(name, '.', '_');
      return name;
    });

class ImageAlphaTest : public ::testing::TestWithParam<const char*> {};

TEST_P(ImageAlphaTest, KeepsStraightAlphaOrPutsTheBackgroundUnderIt) {
  const std::string name = GetParam();
  const Tensor rgba = expected(name);
  EXPECT_EQ(worst_difference(read_image_rgba(fixture(name)), rgba), 0);
  ReadOptions options;
  options.background = {10, 200, 90};
  const Tensor alpha = rgba.slice(2, 3, 4).to(at::kDouble) / 255;
  const Tensor under = at::tensor({10.0, 200.0, 90.0}, at::kDouble);
  const Tensor over = rgba.slice(2, 0, 3) * alpha + under * (1 - alpha);
  EXPECT_EQ(worst_difference(read_image(fixture(name), options), over.round()), 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, ImageAlphaTest,
                         ::testing::Values("rgba.png", "rgba.webp", "rgba.bmp", "grey_alpha.png",
                                           "palette_alpha.png"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

TEST(ImageTest, OpaquePicturesHaveAlpha255) {
  const Tensor rgba = read_image_rgba(fixture("rgb.png"));
  EXPECT_EQ(worst_difference(rgba.slice(2, 0, 3), expected("rgb.png")), 0);
  EXPECT_EQ(rgba.select(2, 3).min().item<int64_t>(), 255);
}

TEST(ImageTest, TurnsEveryExifOrientationUpright) {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const std::string name = fmt::format("orientation{}.jpg", orientation);
    const ImageInfo info = probe_image(fixture(name));
    EXPECT_EQ(info.orientation, orientation);
    EXPECT_EQ(std::pair(info.width, info.height), std::pair(int64_t{24}, int64_t{16})) << name;
    // JPEG blocks lie differently in a turned picture.
    EXPECT_LE(worst_difference(read_image(fixture(name)), expected(name)), 16) << name;
  }
}

TEST(ImageTest, ConvertsCmyk) {
  const Tensor white = read_image(fixture("cmyk_white.jpg"));
  EXPECT_EQ(white.sizes(), (std::vector<int64_t>{8, 8, 3}));
  EXPECT_GE(white.min().item<int64_t>(), 250);
  const Tensor cyan = read_image(fixture("cmyk_cyan.jpg"))[4][4];
  EXPECT_LT(cyan[0].item<int64_t>(), 60);
  EXPECT_GT(cyan[1].item<int64_t>(), 130);
  EXPECT_GT(cyan[2].item<int64_t>(), 200);
  EXPECT_EQ(probe_image(fixture("cmyk_cyan.jpg")).bands, 4);
}

TEST(ImageTest, ProbesWhatTheHeaderSays) {
  const ImageInfo info = probe_image(fixture("rgba.webp"));
  EXPECT_EQ(info.format, "webp");
  EXPECT_TRUE(info.has_alpha);
  EXPECT_EQ(info.bands, 4);
  EXPECT_EQ(std::pair(info.width, info.height), std::pair(int64_t{16}, int64_t{8}));
  const ImageInfo bmp = probe_image(fixture("rgb.bmp"));
  EXPECT_EQ(bmp.format, "bmp");
  EXPECT_FALSE(bmp.has_alpha);
  EXPECT_EQ(std::pair(bmp.width, bmp.height), std::pair(int64_t{24}, int64_t{16}));
}

TEST(ImageTest, GoesByContentNotByName) {
  TempFolder folder;
  write_bytes(folder / "photo [1,page=2].png", read_file(fixture("rgb.jpg")));
  EXPECT_EQ(probe_image(folder / "photo [1,page=2].png").format, "jpeg");
  EXPECT_LE(worst_difference(read_image(folder / "photo [1,page=2].png"), expected("rgb.jpg")), 1);
}

TEST(ImageTest, KnowsPicturesByTheirExtension) {
  for (const char* name :
       {"a.png", "b.JPG", "c.x.JpEg", "d.webp", "e.avif", "f.jxl", "g.bmp", "h.TIF"}) {
    EXPECT_TRUE(is_image_path(name)) << name;
  }
  for (const char* name : {"png", "a.txt", "a.png.txt", ".png", "a.npz", "a"}) {
    EXPECT_FALSE(is_image_path(name)) << name;
  }
}

TEST(ImageTest, RefusesFilesThatAreNoPictures) {
  TempFolder folder;
  const auto message_for = [&](const std::string& bytes) {
    write_bytes(folder / "x.png", bytes);
    const std::string message = test::error_message([&] { read_image(folder / "x.png"); });
    EXPECT_NE(message.find("x.png"), std::string::npos) << message;
    return message;
  };
  EXPECT_NE(message_for("").find("empty file"), std::string::npos);
  EXPECT_NE(message_for("hello, I am text").find("text: \"hello"), std::string::npos);
  EXPECT_NE(message_for("  <html><body>").find("an HTML page"), std::string::npos);
  EXPECT_NE(message_for("PK\x03\x04 zip").find("a ZIP archive"), std::string::npos);
  EXPECT_NE(message_for("<svg xmlns='http://www.w3.org/2000/svg'/>").find("an SVG drawing"),
            std::string::npos);
  EXPECT_NE(message_for("\x01\x02\x03\x04").find("unknown data (01 02 03 04)"), std::string::npos);
}

TEST(ImageTest, ReportsAMissingFileAsIo) {
  try {
    probe_image("/nowhere/at all.png");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
  }
}

TEST(ImageTest, RefusesTruncatedPictures) {
  TempFolder folder;
  write_png(folder / "whole.png", sample(64, 64));
  std::filesystem::copy_file(fixture("rgb.jpg"), folder / "whole.jpg");
  for (const char* name : {"whole.png", "whole.jpg"}) {
    const std::string bytes = read_file(folder / name);
    for (const double part : {0.3, 0.6, 0.9}) {
      write_bytes(folder / "cut", bytes.substr(0, static_cast<size_t>(bytes.size() * part)));
      try {
        read_image(folder / "cut");
        ADD_FAILURE() << name << " accepted at " << part;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::format);
        EXPECT_NE(std::string(error.what()).find("damaged or cut off"), std::string::npos)
            << error.what();
      }
    }
  }
}

TEST(ImageTest, NeverCrashesOnDamagedPictures) {
  TempFolder folder;
  for (const char* name : {"rgb.png", "rgb.jpg", "rgb.webp", "rgb.tif", "rgba.bmp", "palette.bmp",
                           "two_frames.gif", "rgb.avif", "rgb.jxl", "p3.png"}) {
    const std::string bytes = read_file(fixture(name));
    for (size_t i = 0; i < bytes.size(); i += 1 + bytes.size() / 60) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(~damaged[i]);
      write_bytes(folder / "x", damaged);
      try {
        read_image(folder / "x");
      } catch (const Error&) {
      }
      if (2 * i > bytes.size()) continue;  // the rest may be frames or sums that are not needed
      write_bytes(folder / "x", bytes.substr(0, i));
      EXPECT_THROW(read_image(folder / "x"), Error) << name << " cut at " << i;
    }
  }
}

TEST(ImageTest, RefusesTooLargePicturesBeforeDecoding) {
  TempFolder folder;
  write_png(folder / "wide.png", at::zeros({1, 30000, 3}, at::kByte));
  const std::string side = test::error_message([&] { read_image(folder / "wide.png"); });
  EXPECT_NE(side.find("at most 16384 pixels a side, got 30000 x 1"), std::string::npos) << side;
  ReadOptions options;
  options.limits = {30000, 29999};
  const std::string area = test::error_message([&] { read_image(folder / "wide.png", options); });
  EXPECT_NE(area.find("at most 29999 pixels"), std::string::npos) << area;
  EXPECT_THROW(probe_image(folder / "wide.png"), Error);
  options.limits.max_pixels = 30000;
  EXPECT_EQ(read_image(folder / "wide.png", options).size(1), 30000);
}

TEST(ImageTest, ReadsSideBySide) {
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        good += worst_difference(read_image(fixture("rgb.png")), expected("rgb.png")) == 0;
        EXPECT_THROW(read_image(fixture("resize.safetensors")), Error);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 80);
}

TEST(PngTest, ReadsBackWhatItWrites) {
  TempFolder folder;
  for (const auto& [height, width] : {std::pair{1, 1}, {7, 5}, {64, 33}, {200, 300}}) {
    const Tensor image = sample(height, width);
    write_png(folder / "x.png", image);
    EXPECT_EQ(worst_difference(read_image(folder / "x.png"), image), 0);
  }
  const Tensor strided = sample(9, 8).permute({1, 0, 2});
  write_png(folder / "x.png", strided);
  EXPECT_EQ(worst_difference(read_image(folder / "x.png"), strided), 0);
}

TEST(PngTest, WritesTheSameBytesEveryTime) {
  EXPECT_EQ(encode_png(sample(50, 40), {{"a", "b"}}), encode_png(sample(50, 40), {{"a", "b"}}));
}

TEST(PngTest, RefusesOtherShapes) {
  EXPECT_THROW(encode_png(at::zeros({2, 2, 4}, at::kByte)), Error);
  EXPECT_THROW(encode_png(at::zeros({2, 2, 3})), Error);
  EXPECT_THROW(encode_png(at::zeros({0, 2, 3}, at::kByte)), Error);
  EXPECT_THROW(encode_png(Tensor()), Error);
}

TEST(PngTest, ReadsTextThatPillowWrote) {
  const PngText text = read_png_text(fixture("text.png"));
  std::string la, meow;
  for (int i = 0; i < 500; ++i) la += "la ";
  for (int i = 0; i < 300; ++i) meow += "\xe5\x96\xb5";
  const PngText wanted = {{"parameters", "a cat, caf\xc3\xa9\nSteps: 20"},
                          {"Comment", "\xe7\x8c\xab \xf0\x9f\x98\x80"},
                          {"zipped", la},
                          {"zipped too", meow}};
  EXPECT_EQ(text, wanted);
}

TEST(PngTest, ReadsBackTextOfAnyAlphabet) {
  TempFolder folder;
  const PngText text = {{"parameters", "plain\nSteps: 20"},
                        {"latin", "\xc3\xbc\xc3\xbf"},
                        {"wide", "\xe7\x8c\xab and \xc4\x80"},
                        {"empty", ""}};
  write_png(folder / "x.png", sample(3, 3), text);
  EXPECT_EQ(read_png_text(folder / "x.png"), text);
  const std::string bytes = read_file(folder / "x.png");
  EXPECT_NE(bytes.find("tEXtlatin"), std::string::npos);
  EXPECT_NE(bytes.find("iTXtwide"), std::string::npos);
}

TEST(PngTest, RefusesKeywordsAndTextThatPngForbids) {
  const Tensor image = sample(2, 2);
  const std::string with_zero("a\0b", 3);
  for (const std::string& keyword : {std::string(), std::string(80, 'a'), std::string(" a"),
                                     std::string("a  b"), std::string("\xe7\x8c\xab"), with_zero}) {
    EXPECT_THROW(encode_png(image, {{keyword, "x"}}), Error) << keyword;
  }
  EXPECT_THROW(encode_png(image, {{"a", with_zero}}), Error);
  EXPECT_THROW(encode_png(image, {{"a", "\xff\xfe"}}), Error);
}

TEST(PngTest, RefusesDamagedAndExplodingText) {
  TempFolder folder;
  write_png(folder / "x.png", sample(2, 2), {{"key", "value"}});
  std::string bytes = read_file(folder / "x.png");
  bytes[bytes.find("value")] = 'V';
  write_bytes(folder / "x.png", bytes);
  const std::string message = test::error_message([&] { read_png_text(folder / "x.png"); });
  EXPECT_NE(message.find("checksum"), std::string::npos) << message;
  write_bytes(folder / "x.png", read_file(fixture("text.png")).substr(0, 150));
  EXPECT_THROW(read_png_text(folder / "x.png"), Error);
  EXPECT_THROW(read_png_text(fixture("rgb.jpg")), Error);
  write_png(folder / "x.png", sample(2, 2), {{"key", std::string(2 << 20, 'a')}});
  EXPECT_THROW(read_png_text(folder / "x.png"), Error);
}

TEST(ResizeTest, AgreesWithPillowBicubicWithinOneLevel) {
  const auto file = SafetensorsFile::open(fixture("resize.safetensors"));
  const Tensor source = file.tensor("source");
  for (const auto& [name, wanted] : file.tensors()) {
    if (name == "source") continue;
    const Tensor resized = resize_image(source, wanted.size(1), wanted.size(0));
    EXPECT_LE(worst_difference(resized, wanted), 1) << name;
  }
}

TEST(ResizeTest, KeepsAnEvenColourAtAnySize) {
  for (const int64_t from_h : {1, 2, 9}) {
    for (const int64_t from_w : {1, 5}) {
      const Tensor even = at::full({from_h, from_w, 3}, 200, at::kByte);
      for (const int64_t h : {1, 3, 20}) {
        for (const int64_t w : {1, 4, 30}) {
          const Tensor wanted = at::full({h, w, 3}, 200, at::kByte);
          EXPECT_LE(worst_difference(resize_image(even, w, h), wanted), 1)
              << from_h << from_w << h << w;
        }
      }
    }
  }
  EXPECT_EQ(resize_image(sample(9, 8).slice(2, 0, 1), 4, 3).sizes(),
            (std::vector<int64_t>{3, 4, 1}));
}

TEST(ResizeTest, LeavesTheSizeItHasAlone) {
  const Tensor image = sample(6, 5);
  EXPECT_TRUE(at::equal(resize_image(image, 5, 6), image));
  EXPECT_THROW(resize_image(image, 0, 6), Error);
  EXPECT_THROW(resize_image(image.to(at::kFloat), 3, 3), Error);
}

}  // namespace
}  // namespace emulsion::io
