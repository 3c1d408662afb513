#include "data/masks.h"

#include <ATen/ATen.h>

#include <filesystem>
#include <initializer_list>

#include "data/loader.h"
#include "data/pictures.h"
#include "support/support.h"

namespace emulsion::data {
namespace {

using test::expect_contains;
using test::TempFolder;

/// Red counts columns; the mask is that red.
void write_column_mask(const std::filesystem::path& path, int64_t width, int64_t height) {
  std::filesystem::create_directories(path.parent_path());
  io::write_png(path, at::arange(width, at::kByte).view({1, width, 1}).expand({height, width, 3}).contiguous());
}

class MasksTest : public ::testing::Test {
 protected:
  MasksTest() {
    config_.sources = {source_at(folder_ / "pictures")};
    config_.resolution = 32;
  }

  std::vector<Batch> load(int count) {
    index_ = scan(config_);
    const BatchPlan plan(index_, config_, 2, 3);
    const BatchSource source(index_, config_, plan, 3);
    std::vector<Batch> batches;
    for (int i = 0; i < count; ++i) batches.push_back(source.load(i));
    return batches;
  }

  TempFolder folder_;
  DataConfig config_;
  Index index_;
};

TEST_F(MasksTest, AMaskIsCutAndFlippedWithItsPicture) {
  write_ramp(folder_ / "pictures/a/one.png", 40, 40);
  write_ramp(folder_ / "pictures/two.png", 48, 40);
  write_column_mask(folder_ / "masks/a/one.png", 40, 40);
  write_column_mask(folder_ / "masks/two.png", 48, 40);
  config_.sources[0].mask = (folder_ / "masks").string();
  config_.flip = 0.5;
  config_.crop = Crop::random;
  config_.crop_size = 16;
  int flipped = 0;
  for (const Batch& batch : load(8)) {
    ASSERT_EQ(batch.masks.sizes(), (std::vector<int64_t>{2, 1, 16, 16}));
    const Tensor red = (batch.pixels.narrow(1, 0, 1) + 1) / 2;
    // Twice resized, from pictures and masks with other neighbours: a level of 255.
    EXPECT_LE((batch.masks - red).abs().max().item<double>(), 1.01 / 255);
    EXPECT_GT(batch.masks.max().item<double>() - batch.masks.min().item<double>(), 0.02);
    flipped += batch.flipped[0] ? 1 : 0;
  }
  EXPECT_GT(flipped, 0);
  EXPECT_LT(flipped, 8);
}

TEST_F(MasksTest, AlphaIsAMask) {
  const std::filesystem::path transparent = test::golden("images/rgba.png");
  write_picture(folder_ / "pictures/opaque.png", 32, 32);
  std::filesystem::copy(transparent, folder_ / "pictures/clear.png");
  const Tensor alpha = io::read_image_rgba(transparent).select(2, 3);
  ASSERT_LT(alpha.min().item<int64_t>(), 128);
  config_.sources[0].mask = "alpha";
  const Index index = scan(config_);
  ASSERT_EQ(index.samples.size(), 2u);
  EXPECT_TRUE(at::equal(read_mask(index.samples[0]), alpha));
  EXPECT_TRUE(index.samples[1].mask.empty());
  ASSERT_EQ(index.problems.size(), 1u);
  expect_contains(to_string(index.problems[0]), {"opaque.png", "alpha channel", "trained whole"});
}

TEST_F(MasksTest, MasksLieBesideTheirPicturesAndAreNoPictures) {
  write_picture(folder_ / "pictures/one.jpg.png", 32, 32);
  write_picture(folder_ / "pictures/two.png", 32, 32);
  write_picture(folder_ / "pictures/two-masklabel.png", 16, 16, 51);
  config_.sources[0].mask = "beside";
  const Batch batch = load(1)[0];
  ASSERT_EQ(index_.samples.size(), 2u);
  ASSERT_EQ(index_.problems.size(), 1u);
  expect_contains(to_string(index_.problems[0]), {"one.jpg.png", "one.jpg-masklabel.png", "trained whole"});
  for (int64_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(batch.masks[i].mean().item<double>(), batch.ids[static_cast<size_t>(i)] == "two.png" ? 0.2 : 1, 1e-6);
  }
  config_.unmasked_probability = 1;
  EXPECT_FALSE(load(1)[0].masks.defined());
}

TEST_F(MasksTest, AMaskOfAnotherShapeLeavesThePictureOut) {
  write_picture(folder_ / "pictures/one.png", 64, 32);
  write_picture(folder_ / "pictures/two.png", 64, 32);
  write_picture(folder_ / "pictures/masks/one.jpg", 32, 32);  // within the folder of pictures, and not one of them
  write_picture(folder_ / "pictures/masks/two.webp.png", 32, 32);
  config_.sources[0].mask = (folder_ / "pictures/masks").string();
  const Index index = scan(config_);
  ASSERT_EQ(index.samples.size(), 1u);
  EXPECT_EQ(index.samples[0].id, "two.png");
  ASSERT_EQ(index.problems.size(), 2u);
  expect_contains(to_string(index.problems[0]), {"masks/one.jpg", "32 x 32", "64 x 32", "picture left out"});
  expect_contains(to_string(index.problems[1]), {"two.png", "masks/two.png", "no such file"});
}

}  // namespace
}  // namespace emulsion::data
