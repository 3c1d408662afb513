#include "io/svg.h"

#include <cmath>

#include "core/error.h"
#include "support/support.h"

namespace emulsion::io {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(SvgTest, DrawsBothCurvesFromEdgeToEdge) {
  const std::string svg = loss_curve_svg("Loss <a & b>", {0, 50, 100}, {1, 0.5, 0}, {1, 0.75, 0.5});
  // The frame reaches from (64, 36) to (704, 312): x = 0, 50, 100 lie at 64, 384, 704.
  EXPECT_NE(svg.find("<path class=\"raw\" d=\"M64.0 36.0L384.0 174.0L704.0 312.0\"/>"),
            std::string::npos)
      << svg;
  EXPECT_NE(svg.find("<path class=\"smooth\" d=\"M64.0 36.0L384.0 105.0L704.0 174.0\"/>"),
            std::string::npos);
  EXPECT_NE(svg.find("Loss &lt;a &amp; b&gt;"), std::string::npos);
  EXPECT_NE(svg.find(">20</text>"), std::string::npos);   // ticks at 0, 20, ..., 100
  EXPECT_NE(svg.find(">0.2</text>"), std::string::npos);  // and at 0, 0.2, ..., 1
  EXPECT_EQ(count(svg, "class=\"grid\""), 12u);
}

TEST(SvgTest, InterruptsTheLineWherePointsAreNotFinite) {
  const std::string svg = loss_curve_svg("t", {0, 1, 2, 3}, {1, NAN, 0, 1});
  EXPECT_EQ(count(svg, "class=\"raw\""), 1u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  const std::string path = svg.substr(svg.find("class=\"raw\""));
  EXPECT_EQ(count(path.substr(0, path.find("/>")), "M"), 2u);
}

TEST(SvgTest, DrawsFramesAroundNothingAndConstants) {
  for (const std::vector<double>& ys :
       {std::vector<double>{}, {3.0}, {0.0}, {NAN}, {1e300}, {-1e-9}}) {
    const std::vector<double> xs(ys.size(), 5.0);
    const std::string svg = loss_curve_svg("t", xs, ys);
    EXPECT_EQ(count(svg, "nan") + count(svg, "inf"), 0u) << svg;
    EXPECT_LT(svg.size(), 20000u);
    EXPECT_NE(svg.find("</svg>"), std::string::npos);
  }
}

TEST(SvgTest, RefusesVectorsOfDifferentLengths) {
  EXPECT_THROW(loss_curve_svg("t", {1, 2}, {1}), Error);
  EXPECT_THROW(loss_curve_svg("t", {1, 2}, {1, 2}, {1}), Error);
}

}  // namespace
}  // namespace emulsion::io
