#include "text.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace emulsion::app {

std::string human_bytes(int64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string human_seconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  if (seconds > 1e8) return "years";
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string human_count(int64_t count) {
  const std::string digits = fmt::format("{}", count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    const bool after_digit = i > 0 && digits[i - 1] != '-';
    if (after_digit && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

int64_t display_width(std::string_view text) {
  int64_t width = 0;
  for (const char c : text) width += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return width;
}

std::string shortened(std::string_view text, int64_t width) {
  if (display_width(text) <= width) return std::string(text);
  size_t end = 0;
  for (int64_t columns = 0; end < text.size(); ++end) {
    const bool starts = (static_cast<unsigned char>(text[end]) & 0xC0) != 0x80;
    if (starts && ++columns > std::max<int64_t>(0, width - 3)) break;
  }
  return std::string(text.substr(0, end)) + std::string(std::min<int64_t>(3, width), '.');
}

std::string padded(std::string_view text, int64_t width) {
  return std::string(text) + std::string(std::max<int64_t>(0, width - display_width(text)), ' ');
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<int64_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += "  " + (i + 1 < row.size() ? padded(row[i], widths[i]) : row[i]);
    }
    text += '\n';
  }
  return text;
}

std::string singular(const std::string& unit) {
  for (const char* ending : {"ches", "shes", "xes"}) {
    if (unit.ends_with(ending)) return unit.substr(0, unit.size() - 2);
  }
  return unit.ends_with("s") ? unit.substr(0, unit.size() - 1) : unit;
}

std::string counted(int64_t count, const std::string& unit) {
  return human_count(count) + " " + (count == 1 ? singular(unit) : unit);
}

}  // namespace emulsion::app
