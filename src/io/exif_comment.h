// The user comment of an EXIF block (JEITA CP-3451, tag 0x9286), where other programs keep how a picture was made.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace emulsion::io {

/// A TIFF structure with nothing but the comment: "UNICODE", then UTF-16, most significant byte first, as A1111's web UI
/// writes it. `text` is UTF-8; what is not becomes U+FFFD.
std::string exif_with_comment(std::string_view text);

/// The comment as UTF-8; nothing if there is none. `exif` is the TIFF structure; the six bytes "Exif\0\0" may stand before
/// it. Reads the character codes UNICODE (either byte order), ASCII and undefined. Never throws: what is damaged holds no
/// comment.
std::optional<std::string> comment_of_exif(std::string_view exif);

}  // namespace emulsion::io
