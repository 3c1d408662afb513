#include "core/noise.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "core/random.h"
#include "support/support.h"

namespace emulsion {
namespace {

/// A line of tests/golden/noise.txt.
struct Golden {
  NoiseSource source;
  uint64_t seed;
  std::vector<int64_t> shape;
  int draw;
  uint64_t hash;
  float first, last;
};

std::vector<int64_t> parse_shape(const std::string& text) {
  std::vector<int64_t> sides;
  std::istringstream parts(text);
  for (std::string side; std::getline(parts, side, 'x');) sides.push_back(std::stoll(side));
  return sides;
}

std::vector<Golden> golden() {
  std::ifstream file(test::golden("noise.txt"));
  std::vector<Golden> rows;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("#")) continue;
    std::istringstream words(line);
    std::string source, shape, hash;
    Golden row;
    words >> source >> row.seed >> shape >> row.draw >> hash >> row.first >> row.last;
    row.source = source == "cpu" ? NoiseSource::cpu : NoiseSource::nv;
    row.shape = parse_shape(shape);
    row.hash = std::stoull(hash, nullptr, 16);
    rows.push_back(row);
  }
  return rows;
}

uint64_t hash_of(const Tensor& x) {
  return hash_name({static_cast<const char*>(x.const_data_ptr()), x.nbytes()});
}

/// PyTorch transforms 8 numbers at a time with AVX2 and one at a time without: other last digits.
bool has_avx2() { return at::get_cpu_capability() != "DEFAULT"; }

void expect_golden(NoiseSource source) {
  std::set<std::vector<int64_t>> shapes;
  std::unique_ptr<NoiseSequence> sequence;
  for (const Golden& row : golden()) {
    if (row.source != source) continue;
    if (row.draw == 0) sequence = noise_sequence(source, row.seed);
    const Tensor x = sequence->draw(row.shape).contiguous();
    const auto* data = x.const_data_ptr<float>();
    EXPECT_NEAR(data[0], row.first, 1e-6) << row.seed;
    EXPECT_NEAR(data[x.numel() - 1], row.last, 1e-6) << row.seed;
    if (source == NoiseSource::nv || has_avx2()) {
      EXPECT_EQ(hash_of(x), row.hash) << row.seed << " " << x.sizes() << " draw " << row.draw;
    }
    shapes.insert(row.shape);
  }
  EXPECT_GE(shapes.size(), 50u);
}

TEST(NoiseTest, CpuGivesTheBitsOfTorchRandnOfFiftyShapesAndInSequence) {
  expect_golden(NoiseSource::cpu);
}

TEST(NoiseTest, NvGivesTheBitsOfCudasPhiloxOfFiftyShapesAndInSequence) {
  expect_golden(NoiseSource::nv);
}

TEST(NoiseTest, NvGivesTheNumbersThatCudaPrints) {
  // torch.manual_seed(0); torch.randn(2, 8, device="cuda"), as in public reports, to the four
  // digits printed.
  const std::vector<float> expected = {-0.9247, -0.4253, -2.6438, 0.1452,  -0.1209, -0.5797,
                                       -0.6229, -0.3284, -1.0745, -0.3631, -1.6711, 2.2655,
                                       0.3117,  -0.1842, 1.2866,  1.1820};
  const Tensor x = noise_sequence(NoiseSource::nv, 0)->draw({2, 8});
  EXPECT_TRUE(at::allclose(x.flatten(), at::tensor(expected), 0, 6e-5)) << x;
}

TEST(NoiseTest, TheNumberOfThreadsChangesNothing) {
  const int before = at::get_num_threads();
  for (const auto& [source, name] : enum_names(NoiseSource{})) {
    at::set_num_threads(1);
    const Tensor one = noise_sequence(source, 3)->draw({1, 4, 96, 97});
    at::set_num_threads(4);
    EXPECT_TRUE(at::equal(one, noise_sequence(source, 3)->draw({1, 4, 96, 97}))) << name;
  }
  at::set_num_threads(before);
}

TEST(NoiseTest, APictureIsTheSameInAnyBatch) {
  for (const auto& [source, name] : enum_names(NoiseSource{})) {
    BatchNoise four(source, 10, 4), last(source, 13, 1);
    for (int draw = 0; draw < 3; ++draw) {
      const Tensor all = four.draw({4, 3, 5}), alone = last.draw({4, 3, 5});
      EXPECT_EQ(all.sizes(), at::IntArrayRef({4, 4, 3, 5}));
      EXPECT_TRUE(at::equal(all[3], alone[0])) << name << " draw " << draw;
      EXPECT_FALSE(at::equal(all[3], all[2])) << name;
    }
  }
}

TEST(NoiseTest, OursIsAddressedByTheNumberOfTheDraw) {
  const auto sequence = noise_sequence(NoiseSource::emulsion, 5);
  for (uint64_t draw = 0; draw < 3; ++draw) {
    EXPECT_TRUE(at::equal(sequence->draw({1, 4, 3, 5}),
                          Rng(5).normal({1, 4, 3, 5}, Purpose::sample, draw)));
  }
}

}  // namespace
}  // namespace emulsion
