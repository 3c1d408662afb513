// Infotext: how a picture was drawn, in the words of A1111's web UI, which most programs of this field read.
//
//   a cat                                   the prompt, any number of lines
//   Negative prompt: blurry
//   Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, Version: ...
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace emulsion::generate {

struct Infotext {
  std::string prompt, negative;
  std::vector<std::pair<std::string, std::string>> settings;  // name, value; in order

  /// The value of a setting, or nullptr.
  const std::string* find(std::string_view name) const;

  bool operator==(const Infotext&) const = default;
};

/// Values with a comma, colon, quotation mark or line break are written as JSON strings.
std::string to_text(const Infotext& infotext);

/// Reads what any web UI or picture says of itself; never throws. The last line holds the settings if at least three can
/// be read from it. Spaces around lines are dropped. Linear in the length of the text.
Infotext parse_infotext(std::string_view text);

/// Names of samplers and schedules in infotext, and the ids of ours that they mean. Older web UIs write both in one:
/// "DPM++ 2M Karras".
std::string sampler_title(std::string_view id);
std::string schedule_title(std::string_view id);

struct SamplerIds {
  std::string sampler, schedule;  // as written, if it is none of the table's
};
/// `schedule` may be empty or "Automatic": the web UI's choice for that sampler.
SamplerIds sampler_ids(std::string_view sampler, std::string_view schedule);

}  // namespace emulsion::generate
