// Internal to the import of other trainers' settings: what is taken from them, set in ours, and left.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "core/error.h"
#include "train/import.h"

namespace emulsion::train {

/// A setting's values by its name; lists have several.
using Settings = std::map<std::string, std::vector<std::string>>;

/// Their name for something, and ours.
struct Named {
  const char *theirs, *ours;
};

/// What becomes of settings: ours are set, the rest is left with a reason.
class Carrier {
 public:
  Carrier(Settings theirs, std::string prefix) : theirs_(std::move(theirs)), prefix_(std::move(prefix)) {}

  /// The only value of a setting, which counts as carried; nothing if it is not there, empty, or a None.
  std::optional<std::string> take(const std::string& key) {
    const auto found = theirs_.extract(key);
    if (found.empty()) return std::nullopt;
    const std::string value = found.mapped().front();
    if (value.empty() || value == "None" || value == "null") return std::nullopt;
    return value;
  }
  std::vector<std::string> take_list(const std::string& key) {
    const auto found = theirs_.extract(key);
    return found.empty() ? std::vector<std::string>() : found.mapped();
  }
  bool take_flag(const std::string& key) {
    const auto value = take(key);
    return value && (*value == "true" || *value == "True" || *value == "1");
  }

  /// Sets one of ours. Throws: Error{config} with their name for it.
  void set(const std::string& path, const std::string& value, const std::string& theirs) {
    try {
      config::override_field(result.config, path, value);
    } catch (const Error& error) {
      throw Error(ErrorCode::config, fmt::format("{}{} = {}: {}", prefix_, theirs, value, error.what()));
    }
  }
  void carry(const std::string& theirs, const std::string& path) {
    if (const auto value = take(theirs)) set(path, *value, theirs);
  }
  void leave(const std::string& setting, const std::string& reason) { result.left.push_back({prefix_ + setting, reason}); }

  /// Leaves everything that is still there: known to mean nothing here, or unknown. `strict`: one that is nearly a known name is a
  /// slip of the pen. Throws: Error{config} naming those.
  void leave_rest(const std::map<std::string, std::string>& reasons, std::vector<std::string> known, bool strict);

  Imported result;

 private:
  Settings theirs_;
  std::string prefix_;
};

/// The words of a shell command, without its quotes and line ends.
std::vector<std::string> words_of(const std::string& text);
/// "weight_decay=0.1" of optimizer_args and network_args.
std::map<std::string, std::string> pairs_of(const std::vector<std::string>& arguments);
std::string lower(std::string text);
/// "true" or "false", however it is written.
std::string truth(const std::string& value);
/// Throws: Error{config} for what is no number.
double number_of(const std::string& value);
/// "float32" or "bfloat16" for "no", "fp16", "BFLOAT_16", ...
std::string numeric_type(const std::string& theirs);

/// block_dims, block_alphas and the lr weights of sd-scripts become rules for layers, or are left with a reason; taken out of
/// `arguments`. After the targets are set.
void carry_blocks(Carrier& carrier, std::map<std::string, std::string>& arguments, LoraMethod& lora);
void carry_optimizer(Carrier& carrier, const std::string& key);
void carry_optimizer_arguments(Carrier& carrier, const std::map<std::string, std::string>& arguments);
/// The shape of the schedule alone.
void carry_schedule(Carrier& carrier, const std::string& key);
/// Whether whole networks keep no float32 weights, and no gradients. After method and dtype are set.
void carry_small_memory(Carrier& carrier, const std::string& rounding, const std::string& fused);
/// "512,512", "512x768", 512: the side of a square of as many pixels.
void carry_resolution(Carrier& carrier, const std::string& key);

constexpr const char* kNotBuilt = "not built";

/// `prefix`: how settings are written ("--"); `strict`: one that is nearly a known name is a slip of the pen.
Imported from_kohya(Settings settings, const std::string& prefix, bool strict);
Imported from_onetrainer(Settings settings);
bool is_ai_toolkit(const Settings& settings);
Imported from_ai_toolkit(Settings settings);

}  // namespace emulsion::train
