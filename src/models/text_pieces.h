// Text to the pieces that CLIP's byte-pair encoding works on: normalisation and splitting.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace emulsion::models {

/// The offset of the first byte that is not UTF-8, or nothing.
std::optional<size_t> first_invalid_utf8(std::string_view text);

/// NFC, white space runs to one space, lower case, then split by
///   <\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
/// dropping what does not match. `text` must be UTF-8. Letters and digits that Unicode gained after
/// version 15 count as neither.
/// Source: transformers, CLIPTokenizer.
std::vector<std::string> clip_pieces(std::string_view text);

}  // namespace emulsion::models
