// Prompts with emphasis: "(word:1.3)", "((word))", "[word]".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer.h"

namespace emulsion::models {

/// A stretch of prompt text and how much it counts.
struct WeightedText {
  std::string text;
  double weight = 1;
  bool starts_chunk = false;  // "BREAK" stood before it

  bool operator==(const WeightedText&) const = default;
};

/// Reads the syntax of Stable Diffusion web UIs:
///   (x)      x counts 1.1 times; brackets nest, ((x)) counts 1.21 times
///   (x:1.3)  x counts 1.3 times
///   [x]      x counts 1 / 1.1 times
///   \( \) \[ \] \\   the character itself; a backslash before anything else is dropped
///   BREAK    (a word of its own) the rest begins a new chunk
/// A bracket that is never closed holds to the end; a closing one without an opening one is text.
/// Neighbours of equal weight are joined. Never throws; an empty prompt gives one empty text.
std::vector<WeightedText> parse_prompt(std::string_view prompt);

/// A word that stands for vectors of its own (textual inversion): it is read as the ids first, first + 1, ...,
/// first + count - 1, which lie beyond the tokenizer's vocabulary.
struct NamedTokens {
  std::string name;
  int64_t first = 0;
  int64_t count = 1;
};

/// One window for the text encoder.
struct WeightedChunk {
  std::vector<int64_t> ids;     // kClipLength ids: begin, tokens, end, padding
  std::vector<double> weights;  // one per id; 1 for begin, end and padding
};

/// At least one chunk; cut as ClipTokenizer::encode_chunks cuts, but never within a name. Names are found by their
/// tokens, wherever these stand one after the other; the longest name wins.
/// Throws: Error{format} if the text is not UTF-8; Error{config} if a name has more ids than a window holds.
std::vector<WeightedChunk> tokenise_weighted(const ClipTokenizer& tokenizer,
                                             const std::vector<WeightedText>& texts,
                                             const std::vector<NamedTokens>& names = {});

/// parse_prompt, then tokenise_weighted.
std::vector<WeightedChunk> tokenise_prompt(const ClipTokenizer& tokenizer, std::string_view prompt,
                                           const std::vector<NamedTokens>& names = {});

}  // namespace emulsion::models
