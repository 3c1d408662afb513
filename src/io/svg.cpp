#include "io/svg.h"

#include <cmath>

#include "core/error.h"

namespace emulsion::io {
namespace {

constexpr double kWidth = 720, kHeight = 360;
constexpr double kLeft = 64, kRight = 704, kTop = 36, kBottom = 312;  // the plot's frame
constexpr int kTicks = 6;

constexpr const char* kStyle =
    "text{font:12px sans-serif;fill:#444}.title{font-size:15px;fill:#222}"
    ".grid{stroke:#e6e6e6}.frame{stroke:#999;fill:none}"
    ".raw{stroke:#9ec5e8;stroke-width:1;fill:none}"
    ".smooth{stroke:#1f6fb4;stroke-width:2.5;fill:none;stroke-linejoin:round}";

struct Range {
  double low = INFINITY, high = -INFINITY;
  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  // Never empty and never of width 0.
  Range settled() const {
    if (low > high) return {0, 1};
    if (low < high) return *this;
    const double half = low == 0 ? 0.5 : std::abs(low) / 2;
    return {low - half, high + half};
  }
};

// 1, 2 or 5 times a power of ten, for about kTicks ticks.
double tick_step(const Range& range) {
  const double rough = (range.high - range.low) / kTicks;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * 0.999) return factor * power;
  }
  return 10 * power;
}

std::vector<double> ticks(const Range& range) {
  const double step = tick_step(range);
  std::vector<double> values;
  const auto first = static_cast<int64_t>(std::ceil(range.low / step - 1e-9));
  const auto last = static_cast<int64_t>(std::floor(range.high / step + 1e-9));
  for (int64_t i = first; i <= last; ++i) values.push_back(static_cast<double>(i) * step);
  return values;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

struct Axes {
  Range x, y;
  double to_x(double value) const {
    return kLeft + (value - x.low) / (x.high - x.low) * (kRight - kLeft);
  }
  double to_y(double value) const {
    return kBottom - (value - y.low) / (y.high - y.low) * (kBottom - kTop);
  }
};

std::string grid(const Axes& axes) {
  std::string out;
  for (const double value : ticks(axes.x)) {
    const double at = axes.to_x(value);
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0:.1f}\" y1=\"{1}\" x2=\"{0:.1f}\" y2=\"{2}\"/>"
        "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4:.6g}</text>\n",
        at, kTop, kBottom, kBottom + 16, value);
  }
  for (const double value : ticks(axes.y)) {
    const double at = axes.to_y(value);
    out += fmt::format(
        "<line class=\"grid\" x1=\"{1}\" y1=\"{0:.1f}\" x2=\"{2}\" y2=\"{0:.1f}\"/>"
        "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:.6g}</text>\n",
        at, kLeft, kRight, kLeft - 6, at + 4, value);
  }
  return out;
}

// A path that starts anew behind every point that is not finite.
std::string curve(const char* css_class, const Axes& axes, const std::vector<double>& xs,
                  const std::vector<double>& ys) {
  std::string points;
  bool joined = false;
  for (size_t i = 0; i < ys.size(); ++i) {
    const bool finite = std::isfinite(xs[i]) && std::isfinite(ys[i]);
    if (finite) {
      points +=
          fmt::format("{}{:.1f} {:.1f}", joined ? "L" : "M", axes.to_x(xs[i]), axes.to_y(ys[i]));
    }
    joined = finite;
  }
  if (points.empty()) return "";
  return fmt::format("<path class=\"{}\" d=\"{}\"/>\n", css_class, points);
}

std::string labels(std::string_view title, std::string_view x_label, std::string_view y_label) {
  const double middle_x = (kLeft + kRight) / 2, middle_y = (kTop + kBottom) / 2;
  return fmt::format(
      "<text class=\"title\" x=\"{}\" y=\"22\" text-anchor=\"middle\">{}</text>\n"
      "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n"
      "<text transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      middle_x, escaped(title), middle_x, kHeight - 12, escaped(x_label), middle_y,
      escaped(y_label));
}

}  // namespace

std::string loss_curve_svg(std::string_view title, const std::vector<double>& xs,
                           const std::vector<double>& ys, const std::vector<double>& smoothed,
                           std::string_view x_label, std::string_view y_label) {
  EMULSION_CHECK(xs.size() == ys.size() && (smoothed.empty() || smoothed.size() == xs.size()),
                 shape, "[plot] expected vectors of one length, got {} xs, {} ys, {} smoothed",
                 xs.size(), ys.size(), smoothed.size());
  Range x, y;
  for (const double value : xs) x.add(value);
  for (const double value : ys) y.add(value);
  for (const double value : smoothed) y.add(value);
  const Axes axes{x.settled(), y.settled()};
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
             "viewBox=\"0 0 {0} {1}\">\n<style>{2}</style>\n"
             "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n",
             kWidth, kHeight, kStyle) +
         labels(title, x_label, y_label) + grid(axes) + curve("raw", axes, xs, ys) +
         curve("smooth", axes, xs, smoothed) +
         fmt::format(
             "<rect class=\"frame\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\n</svg>\n",
             kLeft, kTop, kRight - kLeft, kBottom - kTop);
}

}  // namespace emulsion::io
