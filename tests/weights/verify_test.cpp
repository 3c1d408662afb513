// Hashes as coreutils gives them, and numbers that are none.
#include "weights/verify.h"

#include <fstream>

#include "core/error.h"
#include "weights/tiny_model.h"

namespace emulsion::weights {
namespace {

// Expected values: printf/dd and sha256sum.
TEST(VerifyTest, HashesAreThoseOfTheField) {
  const test::TempFolder folder;
  const std::string header = "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}} ";
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  std::ofstream(folder / "a.safetensors", std::ios::binary) << bytes << header << "hi";
  const FileHashes hashes = hashes_of(folder / "a.safetensors");
  // printf hi | sha256sum
  EXPECT_EQ(hashes.data_sha256, "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4");
  // sha256sum </dev/null: the file ends before 1 MiB
  EXPECT_EQ(hashes.old_hash, "e3b0c442");
  EXPECT_EQ(hashes.short_hash(), hashes.sha256.substr(0, 10));

  std::ofstream(folder / "b.ckpt", std::ios::binary) << std::string(0x120000, 'x');
  const FileHashes others = hashes_of(folder / "b.ckpt");
  // head -c 1179648 /dev/zero | tr '\0' x | sha256sum; the same with 65536
  EXPECT_EQ(others.sha256, "424a0b13925eb61b68545d052b999e63eb1d92e47da706d4cf096a91f06f92c6");
  EXPECT_EQ(others.old_hash, "1f8745f0");
  EXPECT_EQ(others.data_sha256, "");
}

TEST(VerifyTest, HashesAreRememberedUntilTheFileChanges) {
  const test::TempFolder folder;
  const char* before = std::getenv("XDG_CACHE_HOME");
  const std::string kept = before == nullptr ? "" : before;
  setenv("XDG_CACHE_HOME", folder.path().c_str(), 1);
  const auto file = folder / "a.ckpt";
  std::ofstream(file) << "hi";
  EXPECT_EQ(remembered_hashes(file).sha256, hashes_of(file).sha256);
  const auto memory = std::filesystem::directory_iterator(folder / "emulsion" / "hashes")->path();
  std::ofstream(memory) << std::string(64, '0') << "\n\n00000000\n";
  EXPECT_EQ(remembered_hashes(file).short_hash(), "0000000000");
  std::ofstream(memory) << "torn";
  EXPECT_EQ(remembered_hashes(file).sha256, hashes_of(file).sha256);
  std::ofstream(file) << "hello";
  EXPECT_EQ(remembered_hashes(file).sha256, hashes_of(file).sha256);
  EXPECT_EQ(remembered_hashes(file).network_hash(), hashes_of(file).sha256.substr(0, 12));
  EXPECT_THROW(remembered_hashes(folder / "none"), Error);
  kept.empty() ? unsetenv("XDG_CACHE_HOME") : setenv("XDG_CACHE_HOME", kept.c_str(), 1);
}

TEST(VerifyTest, TensorsThatAreNotFiniteAreNamedAndCounted) {
  const test::TempFolder folder;
  Tensor bad = at::ones({4, 3}, at::kHalf);
  bad[0][0] = std::numeric_limits<float>::quiet_NaN();
  bad[1][1] = std::numeric_limits<float>::infinity();
  bad[2][2] = -std::numeric_limits<float>::infinity();
  io::write_safetensors(folder / "a.safetensors", {{"good", at::ones({2})}, {"bad", bad}, {"ids", at::arange(3)}});
  const auto found = not_finite(io::open_tensor_file(folder / "a.safetensors"));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].name, "bad");
  EXPECT_EQ(found[0].nans, 1);
  EXPECT_EQ(found[0].infinities, 2);
  EXPECT_EQ(found[0].numbers, 12);
}

}  // namespace
}  // namespace emulsion::weights
