// Numbers and texts as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace emulsion::app {

/// "512 B", "1.5 MiB", "23.0 GiB".
std::string human_bytes(int64_t bytes);

/// "0.4 s", "12 s", "3:05", "1:02:03".
std::string human_seconds(double seconds);

/// "1,234,567".
std::string human_count(int64_t count);

/// Characters that `text` takes on a terminal; UTF-8, one column each.
int64_t display_width(std::string_view text);

/// `text` cut to at most `width` columns, "..." at the cut.
std::string shortened(std::string_view text, int64_t width);

/// `text` with spaces behind it up to `width` columns.
std::string padded(std::string_view text, int64_t width);

/// Rows of columns, each as wide as its widest cell, two spaces between, two before. The last
/// column is not padded.
std::string table(const std::vector<std::vector<std::string>>& rows);

/// The simple English singular of a unit: "steps" -> "step", "batches" -> "batch".
std::string singular(const std::string& unit);

/// "1 picture", "1,064 pictures".
std::string counted(int64_t count, const std::string& unit);

}  // namespace emulsion::app
