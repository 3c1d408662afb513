// Loss curves as SVG text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace emulsion::io {

/// A line plot of 720 x 360: `ys` over `xs` thin, `smoothed` (if not empty) over `xs` thick, axes
/// with round ticks. Points that are not finite interrupt a line. Vectors have one length. Throws:
/// Error{shape} if the lengths differ.
std::string loss_curve_svg(std::string_view title, const std::vector<double>& xs,
                           const std::vector<double>& ys, const std::vector<double>& smoothed = {},
                           std::string_view x_label = "step", std::string_view y_label = "loss");

}  // namespace emulsion::io
