#include "train/import_carrier.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <exception>
#include <sstream>

#include "config/suggest.h"
#include "core/error.h"

namespace emulsion::train {
namespace {

constexpr Named kOptimizers[] = {{"adamw", "adamw"},
                                 {"adam", "adamw"},
                                 {"adamw8bit", "adamw_8bit"},
                                 {"adamw_8bit", "adamw_8bit"},
                                 {"pagedadamw8bit", "adamw_8bit"},
                                 {"lion", "lion"},
                                 {"sgd", "sgd"},
                                 {"sgdnesterov", "sgd"},
                                 {"adafactor", "adafactor"},
                                 {"prodigy", "prodigy"},
                                 {"dadaptation", "dadapt_adam"},
                                 {"dadaptadam", "dadapt_adam"},
                                 {"dadapt_adam", "dadapt_adam"},
                                 {"came", "came"},
                                 {"adan", "adan"},
                                 {"stableadamw", "stable_adamw"},
                                 {"stable_adamw", "stable_adamw"},
                                 {"muon", "muon"},
                                 {"adamwschedulefree", "schedule_free_adamw"},
                                 {"schedule_free_adamw", "schedule_free_adamw"}};
constexpr Named kSchedules[] = {{"constant", "constant"},
                                {"constant_with_warmup", "constant"},
                                {"linear", "linear"},
                                {"cosine", "cosine"},
                                {"cosine_with_restarts", "cosine_with_restarts"},
                                {"cosine_with_hard_restarts", "cosine_with_restarts"},
                                {"polynomial", "polynomial"},
                                {"rex", "rex"},
                                {"inverse_sqrt", "inverse_sqrt"},
                                {"warmup_stable_decay", "warmup_stable_decay"}};

template <size_t N>
std::optional<std::string> ours_for(const Named (&table)[N], const std::string& theirs) {
  for (const Named& row : table) {
    if (lower(theirs) == row.theirs) return row.ours;
  }
  return std::nullopt;
}

}  // namespace

void Carrier::leave_rest(const std::map<std::string, std::string>& reasons, std::vector<std::string> known, bool strict) {
  for (const auto& [name, reason] : reasons) known.push_back(name);
  std::vector<std::string> slips;
  for (const auto& [key, values] : theirs_) {
    const bool off = values.size() == 1 && (values[0].empty() || values[0] == "false" || values[0] == "False" ||
                                            values[0] == "None" || values[0] == "0" || values[0] == "0.0");
    const auto reason = reasons.find(key);
    if (reason != reasons.end()) {
      if (!off) leave(fmt::format("{} = {}", key, fmt::join(values, " ")), reason->second);
      continue;
    }
    const std::string meant = strict ? config::did_you_mean(key, known) : "";
    if (!meant.empty() && !off) slips.push_back(fmt::format("{}{}: there is no such setting{}", prefix_, key, meant));
    if (meant.empty() && !off) leave(fmt::format("{} = {}", key, fmt::join(values, " ")), "not known to this program");
  }
  EMULSION_CHECK(slips.empty(), config, "{}", fmt::join(slips, "\n"));
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  bool open = false;
  char quote = 0;
  const auto close = [&] {
    if (open) words.push_back(word);
    word.clear();
    open = false;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      c == quote ? void(quote = 0) : void(word += c);
    } else if (c == '"' || c == '\'') {
      quote = c;
      open = true;
    } else if (c == '\\' && i + 1 < text.size() && (text[i + 1] == '\n' || text[i + 1] == '\r')) {
      close();
    } else if ((c == '^' || c == '`') && i + 1 < text.size() && (text[i + 1] == '\n' || text[i + 1] == '\r')) {
      close();  // Windows' line ends
    } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      close();
    } else {
      word += c;
      open = true;
    }
  }
  close();
  return words;
}

std::map<std::string, std::string> pairs_of(const std::vector<std::string>& arguments) {
  std::map<std::string, std::string> pairs;
  for (const std::string& all : arguments) {
    for (const std::string& argument : words_of(all)) {  // the GUI keeps them in one line
      const size_t equals = argument.find('=');
      if (equals != argument.npos) pairs[argument.substr(0, equals)] = argument.substr(equals + 1);
    }
  }
  return pairs;
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string truth(const std::string& value) { return lower(value) == "true" || value == "1" ? "true" : "false"; }

void carry_optimizer(Carrier& carrier, const std::string& key) {
  const std::string theirs = carrier.take(key).value_or("adamw");
  const auto ours = ours_for(kOptimizers, theirs.substr(theirs.rfind('.') + 1));
  if (!ours) {
    carrier.leave(fmt::format("{} = {}", key, theirs), "this optimizer is not built; adamw takes its place");
  }
  carrier.set("optimizer.type", ours.value_or("adamw"), key);
  if (lower(theirs) == "sgd") carrier.set("optimizer.nesterov", "false", key);
}

void carry_optimizer_arguments(Carrier& carrier, const std::map<std::string, std::string>& arguments) {
  static const std::map<std::string, std::string> kNames = {{"use_bias_correction", "bias_correction"}, {"decouple", "decoupled"}};
  for (const auto& [name, value] : arguments) {
    const auto renamed = kNames.find(name);
    const std::string ours = renamed == kNames.end() ? name : renamed->second;
    const bool is_word = !value.empty() && std::isalpha(static_cast<unsigned char>(value[0]));
    try {
      if (name == "betas") {
        std::string numbers = value;
        std::erase_if(numbers, [](char c) { return c == '(' || c == ')' || c == '[' || c == ']' || c == ' '; });
        std::istringstream in(numbers);
        int64_t number = 0;
        for (std::string beta; std::getline(in, beta, ',');) carrier.set(fmt::format("optimizer.beta{}", ++number), beta, "betas");
      } else {
        carrier.set("optimizer." + ours, is_word ? truth(value) : value, name);
      }
    } catch (const Error&) {
      carrier.leave(fmt::format("optimizer_args {}={}", name, value), "this optimizer has no such setting here");
    }
  }
}

void carry_schedule(Carrier& carrier, const std::string& key) {
  const auto theirs = carrier.take(key);
  if (!theirs) return;
  const auto ours = ours_for(kSchedules, *theirs);
  if (ours) carrier.set("schedule.shape", *ours, key);
  if (!ours) carrier.leave(fmt::format("{} = {}", key, *theirs), "this schedule is not built; the learning rate stays constant");
}

void carry_small_memory(Carrier& carrier, const std::string& rounding, const std::string& fused) {
  const RunConfig& config = carrier.result.config;
  const bool whole = std::holds_alternative<DiffusionMethod>(config.method);
  const auto carried = [&](const std::string& key, bool fits, const char* path) {
    if (!carrier.take_flag(key)) return false;
    fits ? carrier.set(path, "true", key) : carrier.leave(key, "adapters and float32 weights need no such saving");
    return fits;
  };
  carried(rounding, whole && config.dtype == ComputeDtype::bfloat16, "stochastic_rounding");
  if (carried(fused, whole, "fused_backward_pass")) carrier.set("clip_by", "tensor_norm", fused);  // what is left of a norm there
}

void carry_resolution(Carrier& carrier, const std::string& key) {
  const auto value = carrier.take(key);
  if (!value) return;
  double width = 0, height = 0;
  char between = 0;
  std::istringstream in(*value);
  in >> width >> between >> height;
  if (height == 0) height = width;
  const auto side = std::llround(std::sqrt(width * height) / 8) * 8;
  carrier.set("data.resolution", std::to_string(side), key);
  if (width != height)
    carrier.leave(fmt::format("{} = {}", key, *value), "carried over as the square of as many pixels; buckets keep proportions");
}

double number_of(const std::string& value) {
  size_t end = 0;
  double number = 0;
  try {
    number = std::stod(value, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  EMULSION_CHECK(end > 0 && end == value.size(), config, "expected a number, got '{}'", value);
  return number;
}

std::string numeric_type(const std::string& theirs) {
  return lower(theirs) == "no" || lower(theirs) == "float32" ? "float32" : "bfloat16";
}

}  // namespace emulsion::train
