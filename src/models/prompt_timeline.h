// Prompts that change while a picture is drawn: "[a:b:0.4]", "[a|b]".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace emulsion::models {

/// A text and the last step, counted from 0, that reads it.
struct TimedText {
  int64_t last_step = 0;
  std::string text;

  bool operator==(const TimedText&) const = default;
};

/// Reads the editing syntax of Stable Diffusion web UIs:
///   [a:b:8]    a up to step 8, then b; [a:b:0.4] the same at 0.4 of the steps (a number with a point is a share)
///   [b:8]      nothing, then b
///   [a::8]     a, then nothing
///   [a|b|c]    a, b, c, a, ... in turn; a choice may be empty
/// They nest, and may hold round brackets, within which ':' and '|' are text. What fits none of these stays as it is
/// written, escapes and brackets of emphasis included: parse_prompt reads those.
///
/// Returns: at least one text; the first whose last_step is not below a step is that step's. As in A1111's web UI, where
/// the numbers come from, [a:b:8] holds a for the steps 0 to 8, and [a|b] begins with two steps of a. Never throws.
std::vector<TimedText> prompt_timeline(std::string_view prompt, int64_t steps);

/// The text of a step, counted from 0. `timeline` is not empty.
const std::string& text_at(const std::vector<TimedText>& timeline, int64_t step);

}  // namespace emulsion::models
