// The base model's recipe, shortened to a minute or two: its run files work, and its score rises.
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "run/tiny_run_files.h"

namespace emulsion::test {
namespace {

TEST(RecipeTest, TheShortenedBaseModelImproves) {
  const TempFolder folder;
  const std::string command = (source_dir() / "tools/base_model/build").string() + " --short " + (folder / "short").string();
  ASSERT_EQ(std::system(command.c_str()), 0);
  std::vector<double> losses, agreements;
  std::istringstream lines(bytes_of(folder / "short/base-model/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto event = nlohmann::json::parse(line);
    if (!event.contains("validation_loss")) continue;
    losses.push_back(event["validation_loss"]);
    agreements.push_back(event["agreement"]);
  }
  ASSERT_EQ(losses.size(), 2u);
  EXPECT_LT(losses[1], losses[0] - 0.02);  // it begins at 1; half a minute of steps further
  EXPECT_GT(agreements[1], agreements[0]);
  EXPECT_GT(agreements[1], 0.6);  // a model that ignores its captions is right in half of the cases
}

}  // namespace
}  // namespace emulsion::test
