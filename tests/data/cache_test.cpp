#include "data/cache.h"

#include <set>

#include "core/error.h"
#include "data/pictures.h"
#include "io/atomic_file.h"
#include "support/support.h"

namespace emulsion::data {
namespace {

using test::error_message;
using test::TempFolder;

Tensor value(int64_t i) { return at::full({2, 3}, static_cast<double>(i), at::kFloat); }

TEST(TensorCacheTest, GivesBackWhatWasPut) {
  TempFolder folder;
  const Tensor a = at::randn({2, 3, 4}), b = at::randn({5}).to(at::kBFloat16);
  const Tensor c = at::arange(6, at::kLong).reshape({2, 3}).t();
  {
    TensorCache cache(folder.path(), "latents", "vae 1");
    cache.put("x", {a, b});
    cache.put("y", {c});
    cache.put("empty", {});
  }
  TensorCache cache(folder.path(), "latents", "vae 1");
  EXPECT_EQ(cache.size(), 3);
  const auto x = cache.get("x");
  ASSERT_EQ(x.size(), 2u);
  EXPECT_TRUE(at::equal(x[0], a));
  EXPECT_TRUE(at::equal(x[1], b));
  EXPECT_EQ(x[1].scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(cache.get("y")[0], c));
  EXPECT_TRUE(cache.get("empty").empty());
  EXPECT_FALSE(cache.contains("z"));
  EXPECT_NE(error_message([&] { cache.get("z"); }).find("\"z\""), std::string::npos);
}

TEST(TensorCacheTest, OtherSettingsAreAnotherFile) {
  TempFolder folder;
  TensorCache a(folder.path(), "latents", "vae 1"), b(folder.path(), "latents", "vae 2");
  a.put("x", {value(1)});
  EXPECT_FALSE(b.contains("x"));
  EXPECT_NE(a.path(), b.path());
}

// Cut after every possible number of bytes, the file holds exactly the entries that were whole.
TEST(TensorCacheTest, SurvivesBeingCutAnywhere) {
  TempFolder folder;
  std::vector<uint64_t> ends;
  std::filesystem::path path;
  {
    TensorCache cache(folder.path(), "latents", "s");
    path = cache.path();
    ends.push_back(std::filesystem::file_size(path));
    for (int64_t i = 0; i < 4; ++i) {
      cache.put(std::to_string(i), {value(i)});
      ends.push_back(std::filesystem::file_size(path));
    }
  }
  const std::string whole = io::read_file(path);
  for (size_t length = 0; length <= whole.size(); ++length) {
    write_text(path, whole.substr(0, length));
    int64_t expected = 0;
    for (size_t i = 1; i < ends.size(); ++i) expected += ends[i] <= length;
    TensorCache cache(folder.path(), "latents", "s");
    ASSERT_EQ(cache.size(), expected) << length;
    cache.put("new", {value(9)});
    for (int64_t i = 0; i < expected; ++i) {
      ASSERT_TRUE(at::equal(cache.get(std::to_string(i))[0], value(i)));
    }
    ASSERT_TRUE(at::equal(cache.get("new")[0], value(9)));
  }
}

TEST(TensorCacheTest, DamageIsNoticed) {
  TempFolder folder;
  std::filesystem::path path;
  {
    TensorCache cache(folder.path(), "latents", "s");
    path = cache.path();
    cache.put("x", {value(1)});
  }
  std::string bytes = io::read_file(path);
  bytes.back() ^= 1;
  write_text(path, bytes);
  TensorCache cache(folder.path(), "latents", "s");
  const auto message = error_message([&] { cache.get("x"); });
  EXPECT_NE(message.find("damaged"), std::string::npos);
  EXPECT_NE(message.find(path.string()), std::string::npos);
}

TEST(TensorCacheTest, AnotherKindOfFileIsLeftAlone) {
  TempFolder folder;
  std::filesystem::path path;
  {
    TensorCache cache(folder.path(), "latents", "s");
    path = cache.path();
  }
  write_text(path, "some letter to a friend that is long enough");
  const auto message = error_message([&] { TensorCache(folder.path(), "latents", "s"); });
  EXPECT_NE(message.find("another kind"), std::string::npos);
  EXPECT_EQ(io::read_file(path), "some letter to a friend that is long enough");
}

TEST(TensorCacheTest, IsOpenOnlyOnce) {
  TempFolder folder;
  TensorCache first(folder.path(), "latents", "s");
  const auto message = error_message([&] { TensorCache(folder.path(), "latents", "s"); });
  EXPECT_NE(message.find("in use"), std::string::npos) << message;
}

class FillCacheTest : public ::testing::Test {
 protected:
  FillCacheTest() {
    for (int64_t i = 0; i < 10; ++i) items_.push_back({std::to_string(i % 9), i % 2});
  }

  bool fill(TensorCache& cache, const std::function<bool()>& stop = {}) {
    return fill_cache(
        cache, items_, 3,
        [&](std::span<const int64_t> which) {
          EXPECT_LE(which.size(), 3u);
          std::vector<Tensors> out;
          for (const int64_t i : which) {
            EXPECT_EQ(items_[i].group, items_[which[0]].group);
            ++computed_[items_[i].key];
            out.push_back({value(i)});
          }
          return out;
        },
        [&](int64_t done, int64_t total) { progress_.emplace_back(done, total); }, stop);
  }

  TempFolder folder_;
  std::vector<CacheItem> items_;
  std::map<std::string, int> computed_;
  std::vector<std::pair<int64_t, int64_t>> progress_;
};

TEST_F(FillCacheTest, ComputesEachKeyOnceInGroups) {
  TensorCache cache(folder_.path(), "l", "s");
  EXPECT_TRUE(fill(cache));
  EXPECT_EQ(cache.size(), 9);
  for (const auto& [key, count] : computed_) EXPECT_EQ(count, 1) << key;
  EXPECT_EQ(progress_.front(), (std::pair<int64_t, int64_t>(0, 9)));
  EXPECT_EQ(progress_.back(), (std::pair<int64_t, int64_t>(9, 9)));
  for (int64_t i = 0; i < 9; ++i) {
    EXPECT_TRUE(at::equal(cache.get(std::to_string(i))[0], value(i)));
  }
}

TEST_F(FillCacheTest, GoesOnWhereItWasStopped) {
  {
    TensorCache cache(folder_.path(), "l", "s");
    int calls = 0;
    EXPECT_FALSE(fill(cache, [&] { return ++calls > 2; }));
    EXPECT_EQ(cache.size(), 5);  // group 0 has five items: batches of three and two
  }
  TensorCache cache(folder_.path(), "l", "s");
  EXPECT_TRUE(fill(cache));
  for (const auto& [key, count] : computed_) EXPECT_EQ(count, 1) << key;
}

TEST(CacheKeyTest, PartsCannotRunTogether) {
  EXPECT_NE(cache_key({"ab", "c"}), cache_key({"a", "bc"}));
  EXPECT_EQ(cache_key({"ab", "c"}), cache_key({"ab", "c"}));
}

}  // namespace
}  // namespace emulsion::data
