// Where captions come from: files beside pictures, metadata tables, names.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/index.h"

namespace emulsion::data {

/// The offset of the first byte that is not UTF-8, or nothing.
std::optional<size_t> invalid_utf8_offset(std::string_view text);

/// Without white space and byte order mark at the ends.
std::string trimmed(std::string_view text);

/// "red_cat-02.png" -> "red cat"; "0001.png" -> "".
std::string caption_from_name(std::string_view stem);

/// A caption with the prefix and trigger word of its source, once in each of its templates.
std::vector<std::string> decorated(const std::string& caption, const SourceConfig& source);

/// A caption, or why there is none.
struct CaptionResult {
  std::vector<std::string> captions;
  std::optional<Problem> problem;
  std::filesystem::path file = {};  // that holds it, beside the picture; empty: it comes from elsewhere
};

/// The caption file beside `picture` (.txt, then .caption), if there is one.
std::optional<CaptionResult> sidecar_caption(const std::filesystem::path& picture);

/// Captions by picture file (normalised path).
using Metadata = std::map<std::string, std::vector<std::string>>;

/// Adds the entries of a metadata.jsonl or metadata.csv. Bad lines and entries for files that do
/// not exist become problems.
void read_metadata(const std::filesystem::path& file, Metadata& metadata,
                   std::vector<Problem>& problems);

}  // namespace emulsion::data
