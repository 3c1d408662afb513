#include "generate/parameters.h"

#include <fmt/format.h>

#include <array>

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

}  // namespace

std::string to_text(const models::NetworkTag& tag) {
  std::string text = fmt::format("<{}:{}:{}", tag.kind, tag.name, tag.text_strength);
  if (tag.unet_strength != tag.text_strength) text += fmt::format(":{}", tag.unet_strength);
  return text + ">";
}

Infotext infotext_of(const Request& request, size_t index, const std::string& model_name,
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
  add("Model", model_name);
  if (request.clip_skip > 0) add("Clip skip", request.clip_skip);
  add("RNG", title_of(request.rng));
  if (request.prompt_syntax == PromptSyntax::plain) add("Prompt syntax", "plain");
  add("Version", "emulsion");
  return text;
}

}  // namespace emulsion::generate
