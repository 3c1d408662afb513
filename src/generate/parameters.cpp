#include "generate/parameters.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>

#include "config/enum_names.h"
#include "core/error.h"

namespace emulsion::generate {
namespace {

/// As A1111's web UI writes "RNG".
constexpr std::array<std::pair<NoiseSource, std::string_view>, 3> kSources = {
    {{NoiseSource::emulsion, "Emulsion"}, {NoiseSource::cpu, "CPU"}, {NoiseSource::nv, "NV"}}};

std::string title_of(NoiseSource source) {
  for (const auto& [known, title] : kSources) {
    if (known == source) return std::string(title);
  }
  return {};
}

/// Settings of web UIs that do not change the picture beyond what the model and the prompt say.
constexpr std::array kHarmless = std::to_array<std::string_view>(
    {"Model", "Model hash", "VAE", "VAE hash", "Version", "Lora hashes", "TI hashes", "Hashes", "Init image", "Mask",
     "Init image hash", "Batch size", "Batch pos", "Parser", "User"});

/// Reads settings and remembers which were read.
class Settings {
 public:
  explicit Settings(const Infotext& text) : text_(text) {}

  const std::string* find(const char* name) {
    read_.push_back(name);
    return text_.find(name);
  }

  template <class T>
  void number(const char* name, T& value) {
    const std::string* found = find(name);
    if (found == nullptr) return;
    const auto [end, error] = std::from_chars(found->data(), found->data() + found->size(), value);
    EMULSION_CHECK(error == std::errc{} && end == found->data() + found->size(), format,
                   "[infotext] {}: expected a number, got '{}'", name, *found);
  }

  std::vector<std::string> others() const {
    std::vector<std::string> others;
    for (const auto& [name, value] : text_.settings) {
      if (std::ranges::find(read_, name) != read_.end() || std::ranges::find(kHarmless, name) != kHarmless.end()) continue;
      others.push_back(name + ": " + value);
    }
    return others;
  }

 private:
  const Infotext& text_;
  std::vector<std::string> read_;
};

NoiseSource source_of(Settings& settings, const Infotext& text) {
  if (const std::string* found = settings.find("RNG")) {
    for (const auto& [source, title] : kSources) {
      if (title == *found) return source;
    }
    EMULSION_CHECK(*found == "GPU", format, "[infotext] RNG: expected Emulsion, CPU, NV or GPU, got '{}'", *found);
    return NoiseSource::nv;
  }
  const std::string* version = text.find("Version");
  return version != nullptr && version->starts_with("emulsion") ? NoiseSource::emulsion : NoiseSource::nv;
}

void read_size(Settings& settings, Request& request) {
  const std::string* found = settings.find("Size");
  if (found == nullptr) return;
  long width = 0, height = 0;
  char end = 0;
  EMULSION_CHECK(std::sscanf(found->c_str(), "%ldx%ld%c", &width, &height, &end) == 2 && width > 0 && height > 0, format,
                 "[infotext] Size: expected WIDTHxHEIGHT, got '{}'", *found);
  request.width = width;
  request.height = height;
}

/// Takes the tags behind a plain prompt off it.
std::vector<models::NetworkTag> take_last_tags(std::string& prompt) {
  std::vector<models::NetworkTag> tags;
  while (prompt.ends_with('>')) {
    const size_t begin = prompt.rfind(" <");
    if (begin == prompt.npos) break;
    const auto found = models::split_prompt(prompt.substr(begin)).networks;
    if (found.size() != 1) break;
    tags.insert(tags.begin(), found.front());
    prompt.resize(begin);
  }
  return tags;
}

/// "name: hash, name: hash".
std::string listed(const std::vector<std::pair<std::string, std::string>>& hashes) {
  std::string text;
  for (const auto& [name, hash] : hashes) text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", name, hash);
  return text;
}

}  // namespace

std::string to_text(const models::NetworkTag& tag) {
  std::string text = fmt::format("<{}:{}:{}", tag.kind, tag.name, tag.text_strength);
  if (tag.unet_strength != tag.text_strength) text += fmt::format(":{}", tag.unet_strength);
  return text + ">";
}

Infotext infotext_of(const Request& request, size_t index, const UsedFiles& files,
                     const std::vector<models::NetworkTag>& networks) {
  Infotext text;
  text.prompt = request.prompts.at(index);
  for (const models::NetworkTag& tag : networks) text.prompt += " " + to_text(tag);
  text.negative = request.negative;
  const auto add = [&](const char* name, auto value) { text.settings.emplace_back(name, fmt::format("{}", value)); };
  add("Steps", request.steps);
  add("Sampler", sampler_title(request.sampler));
  add("Schedule type", schedule_title(request.schedule));
  add("CFG scale", request.cfg);
  if (request.cfg_rescale != 0) add("CFG rescale", request.cfg_rescale);
  add("Seed", request.seed + static_cast<int64_t>(index));
  add("Size", fmt::format("{}x{}", request.width, request.height));
  if (!files.model_hash.empty()) add("Model hash", files.model_hash);
  add("Model", files.model);
  if (request.source.given()) {
    add("Denoising strength", request.source.strength);
    add("Init image", request.source.name);
    if (request.source.mask.defined()) add("Mask", request.source.mask_name);
  }
  if (request.clip_skip > 0) add("Clip skip", request.clip_skip);
  add("RNG", title_of(request.rng));
  if (request.prompt_syntax == PromptSyntax::plain) add("Prompt syntax", "plain");
  if (!files.loras.empty()) add("Lora hashes", listed(files.loras));
  if (!files.embeddings.empty()) add("TI hashes", listed(files.embeddings));
  add("Version", "emulsion");
  return text;
}

Described describe(const Infotext& text) {
  Described found;
  Request& request = found.request;
  Settings settings(text);
  std::string prompt = text.prompt;
  request.negative = text.negative;
  settings.number("Steps", request.steps);
  settings.number("CFG scale", request.cfg);
  settings.number("CFG rescale", request.cfg_rescale);
  settings.number("Seed", request.seed);
  settings.number("Clip skip", request.clip_skip);
  settings.number("Denoising strength", found.strength);
  read_size(settings, request);
  request.rng = source_of(settings, text);
  found.masked = text.find("Mask") != nullptr || text.find("Mask blur") != nullptr;
  if (const std::string* sampler = settings.find("Sampler")) {
    const std::string* schedule = settings.find("Schedule type");
    const SamplerIds ids = sampler_ids(*sampler, schedule == nullptr ? "" : *schedule);
    diffusion::find_sampler(ids.sampler);
    request.sampler = ids.sampler;
    if (!ids.schedule.empty()) request.schedule = config::name_of(config::value_of<diffusion::SigmaSchedule>(ids.schedule));
  }
  if (const std::string* syntax = settings.find("Prompt syntax"); syntax != nullptr && *syntax == "plain") {
    request.prompt_syntax = PromptSyntax::plain;
    found.networks = take_last_tags(prompt);
  }
  request.prompts = {std::move(prompt)};
  found.left_out = settings.others();
  return found;
}

}  // namespace emulsion::generate
