// The timing of a picture: every part takes some time, and the parts are as many as asked for.
#include "generate/bench.h"

#include <gtest/gtest.h>

#include "models/family.h"
#include "support/support.h"

namespace emulsion::generate {
namespace {

class CountingReporter : public Reporter {
 public:
  void advance(int64_t done, const Figures&) override { steps = done; }
  int64_t steps = 0;
};

TEST(DrawingBenchTest, EveryFamilyIsTimed) {
  for (const models::Family& family : models::families()) {
    if (family.id.ends_with("inpaint")) continue;  // draws from a picture
    CountingReporter reporter;
    const DrawingBenchResult result = bench_drawing({.model = family.id, .tiny = true, .steps = 3}, reporter);
    EXPECT_EQ(reporter.steps, 3) << family.id;
    EXPECT_GT(result.start_seconds, result.text_seconds) << family.id;
    for (const double part : {result.start_seconds, result.text_seconds, result.first_step, result.seconds_per_step, result.decode_seconds}) {
      EXPECT_GT(part, 0) << family.id;
      EXPECT_LT(part, 300) << family.id;
    }
  }
}

TEST(DrawingBenchTest, AnUnknownFamilyIsRefusedByName) {
  Reporter silent;
  EXPECT_NE(test::error_message([&] { bench_drawing({.model = "sd9"}, silent); }).find("sd9"), std::string::npos);
}

}  // namespace
}  // namespace emulsion::generate
