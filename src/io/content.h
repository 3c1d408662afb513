// Internal to io: what the first bytes of a file look like, for messages about files that are
// something else.
#pragma once

#include <string>
#include <string_view>

namespace emulsion::io {

/// E.g. "an HTML page", "a ZIP archive", "text: \"hello wor\"", "unknown data (de ad be ef)".
/// "nothing" if empty.
std::string describe_content(std::string_view first_bytes);

/// Printable form of text from a file: control characters and broken UTF-8 become '?', cut at
/// `limit` bytes.
std::string printable(std::string_view text, size_t limit = 80);

/// Bytes of the UTF-8 character that `text` begins with; 0 if it is broken.
size_t utf8_length(std::string_view text);

}  // namespace emulsion::io
