// What `bench load` reports of a model whose sizes are known.
#include "weights/load_bench.h"

#include <gtest/gtest.h>

#include "support/support.h"
#include "weights/single_file.h"
#include "weights/tiny_model.h"

namespace emulsion::weights {
namespace {

TEST(LoadBenchTest, BytesAreThoseOfTheDtypeAndBothTimesAreTaken) {
  const test::TempFolder folder;
  const models::Model model = test::tiny_model();
  save_single_file(folder / "model.safetensors", model, {.dtype = at::kHalf});
  int64_t numbers = 0;
  for (const nn::Component& part : model.components()) numbers += part.store->numel();
  for (const bool cold : {false, true}) {
    const LoadBenchResult stored = bench_load(folder / "model.safetensors", {.dtype = at::ScalarType::Undefined}, cold);
    const LoadBenchResult wide = bench_load(folder / "model.safetensors", {.dtype = at::kFloat}, cold);
    EXPECT_EQ(stored.model_bytes, 2 * numbers);
    EXPECT_EQ(wide.model_bytes, 4 * numbers);
    EXPECT_GT(stored.file_bytes, stored.model_bytes);
    EXPECT_GT(stored.read_seconds, 0);
    EXPECT_GT(stored.load_seconds, 0);
    EXPECT_GT(stored.peak_memory_bytes, 0);
  }
}

}  // namespace
}  // namespace emulsion::weights
