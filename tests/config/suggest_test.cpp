#include "config/suggest.h"

#include <gtest/gtest.h>

namespace emulsion::config {
namespace {

TEST(SuggestTest, DistanceCountsEditsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("wieght", "weight"), 1);  // one swap
  EXPECT_EQ(edit_distance("ca", "abc"), 3);         // 2 in the unrestricted form, 3 in this one
}

TEST(SuggestTest, FindsTheClosestName) {
  const std::vector<std::string> names = {"lr", "weight_decay", "betas", "eps"};
  EXPECT_EQ(closest_name("wieght_decay", names), "weight_decay");
  EXPECT_EQ(closest_name("Betas", names), "betas");
  EXPECT_EQ(closest_name("beta", names), "betas");
  EXPECT_EQ(closest_name("l", names), "lr");
}

TEST(SuggestTest, FindsNothingWhereNothingIsClose) {
  EXPECT_EQ(closest_name("momentum", {"lr", "weight_decay"}), "");
  EXPECT_EQ(closest_name("q", {"v", "epsilon"}), "");
  EXPECT_EQ(closest_name("lr", {}), "");
}

TEST(SuggestTest, PrefersTheEarlierOfEquallyCloseNames) {
  EXPECT_EQ(closest_name("rank_b", {"rank_a", "rank_c"}), "rank_a");
}

TEST(SuggestTest, AsksOnlyWhenItHasAnAnswer) {
  EXPECT_EQ(did_you_mean("epsilom", {"epsilon", "v"}), "; did you mean 'epsilon'?");
  EXPECT_EQ(did_you_mean("flow", {"epsilon", "v"}), "");
}

}  // namespace
}  // namespace emulsion::config
