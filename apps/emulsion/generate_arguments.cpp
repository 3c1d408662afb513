#include "generate_arguments.h"

#include <algorithm>
#include <filesystem>

#include "arguments.h"
#include "config/enum_names.h"
#include "core/error.h"
#include "generate/infotext.h"
#include "generate/networks.h"
#include "io/image.h"
#include "io/image_lossy.h"
#include "io/safetensors.h"

namespace emulsion::app {
namespace {

namespace fs = std::filesystem;
using generate::PromptSyntax;

Tensor read_latents(const std::string& file) {
  const auto opened = io::SafetensorsFile::open(file);
  EMULSION_CHECK(opened.contains("latents"), format, "{}: expected a tensor 'latents' [B,C,h,w], it holds none", file);
  return opened.tensor("latents").to(at::kFloat);
}

/// Grey values [H, W]; what is transparent counts as black.
Tensor read_mask(const std::string& file) {
  const Tensor rgb = io::read_image(file, {.background = {0, 0, 0}, .limits = {}}).to(at::kFloat);
  const Tensor weights = at::tensor(std::vector<double>{0.299, 0.587, 0.114}, at::kDouble).to(at::kFloat);
  return rgb.matmul(weights).round().clamp(0, 255).to(at::kByte);
}

generate::Described read_description(const std::string& file, Reporter& reporter) {
  const auto text = io::read_generation_text(file);
  EMULSION_CHECK(text && !text->empty(), not_found, "{}: expected a picture that says how it was drawn, it does not", file);
  const generate::Described described =
      with_context("reading the parameters of " + file, [&] { return generate::describe(generate::parse_infotext(*text)); });
  for (const std::string& setting : described.left_out) reporter.note("Not carried over from the picture: " + setting);
  return described;
}

void check_source(const GenerateArguments& arguments, const generate::Described& from) {
  EMULSION_CHECK(from.strength == 0 || !arguments.init_image.empty(), config,
                 "{}: it was drawn from another picture; give that as --init-image", arguments.from_image);
  EMULSION_CHECK(!from.masked || !arguments.mask.empty(), config, "{}: it was drawn with a mask; give that as --mask",
                 arguments.from_image);
}

template <class T>
void take(const std::optional<T>& given, T& value) {
  if (given) value = *given;
}

void take_given(const GenerateArguments& arguments, generate::Request& request) {
  take(arguments.negative, request.negative);
  take(arguments.seed, request.seed);
  take(arguments.steps, request.steps);
  take(arguments.cfg, request.cfg);
  take(arguments.cfg_rescale, request.cfg_rescale);
  take(arguments.clip_skip, request.clip_skip);
  take(arguments.sampler, request.sampler);
  take(arguments.schedule, request.schedule);
  if (arguments.rng) request.rng = config::value_of<NoiseSource>(*arguments.rng);
  if (arguments.syntax) request.prompt_syntax = *arguments.syntax == "plain" ? PromptSyntax::plain : PromptSyntax::weighted;
  if (!arguments.size.empty()) {
    const auto [width, height] = parse_size(arguments.size);
    request.width = width;
    request.height = height;
  }
  request.vae_tiling = config::value_of<generate::Tiling>(arguments.vae_tiling);
  if (!arguments.init_latents.empty()) request.init_latents = read_latents(arguments.init_latents);
}

/// Every prompt `batch` times.
std::vector<std::string> repeated(const std::vector<std::string>& prompts, int64_t batch) {
  EMULSION_CHECK(batch >= 1 && batch <= 1024, config, "--batch: expected 1 to 1024, got {}", batch);
  std::vector<std::string> all;
  for (std::string prompt : prompts) {
    if (prompt.ends_with("] ")) prompt.pop_back();  // see with_brackets_kept in main.cpp
    all.insert(all.end(), static_cast<size_t>(batch), prompt);
  }
  return all;
}

generate::Source read_source(const GenerateArguments& arguments, double strength) {
  generate::Source source;
  EMULSION_CHECK(!arguments.strength || (*arguments.strength > 0 && *arguments.strength <= 1), config,
                 "--strength: expected above 0 and up to 1, got {}", *arguments.strength);
  source.strength = arguments.strength.value_or(arguments.init_image.empty() ? 0 : strength);
  EMULSION_CHECK(arguments.mask.empty() || !arguments.init_image.empty(), config,
                 "--mask: expected --init-image with it, the picture that the mask belongs to");
  if (!arguments.init_image.empty()) {
    source.picture = io::read_image(arguments.init_image);
    source.name = fs::path(arguments.init_image).filename().string();
  }
  if (!arguments.mask.empty()) {
    source.mask = read_mask(arguments.mask);
    source.mask_name = fs::path(arguments.mask).filename().string();
  }
  return source;
}

}  // namespace

std::vector<models::NetworkTag> Asked::networks_of(size_t index) const {
  std::vector<models::NetworkTag> tags = networks;
  if (request.prompt_syntax == PromptSyntax::plain) return tags;
  for (const auto& tag : generate::networks_of(request.prompts[index])) tags.push_back(tag);
  return tags;
}

size_t Asked::drawn_together(size_t first) const {
  constexpr int64_t kPixels = 8 * 512 * 512;
  const auto most = static_cast<size_t>(std::max<int64_t>(1, kPixels / (request.width * request.height)));
  const auto tags = networks_of(first);
  size_t count = 1;
  while (count < most && first + count < request.prompts.size() && networks_of(first + count) == tags) ++count;
  return count;
}

std::vector<std::string> Asked::texts() const {
  std::vector<std::string> texts = {request.negative};
  for (const std::string& prompt : request.prompts) {
    if (request.prompt_syntax == PromptSyntax::plain) {
      texts.push_back(prompt);
    } else {
      for (const auto& part : models::split_prompt(prompt).parts) texts.push_back(part.text);
    }
  }
  return texts;
}

models::NetworkTag tag_of(const std::string& kind, const std::string& given) {
  const auto [file, weight] = file_and_weight(given);
  return {kind, fs::path(file).stem().string(), weight, weight};
}

Asked asked_by(const GenerateArguments& arguments, Reporter& reporter) {
  generate::Described from;
  if (!arguments.from_image.empty()) {
    from = read_description(arguments.from_image, reporter);
    check_source(arguments, from);
  }
  Asked asked{.request = from.request, .networks = from.networks,
              .files = {generate::NamedFiles(arguments.lora_folder), generate::NamedFiles(arguments.hypernetwork_folder)}};
  generate::Request& request = asked.request;
  take_given(arguments, request);
  const std::vector<std::string>& prompts = arguments.prompts.empty() ? request.prompts : arguments.prompts;
  EMULSION_CHECK(!prompts.empty(), config, "expected a prompt behind the model, or --from-image, got neither");
  request.prompts = repeated(prompts, arguments.batch);
  request.source = read_source(arguments, from.strength);

  std::vector<models::NetworkTag> called = asked.networks;  // already, by the picture of --from-image
  if (arguments.prompts.empty() && request.prompt_syntax == PromptSyntax::weighted) {
    for (const auto& tag : generate::networks_of(prompts.front())) called.push_back(tag);
  }
  const auto use = [&](const std::string& kind, const std::vector<std::string>& given, generate::NamedFiles& files) {
    for (const std::string& file : given) {
      const models::NetworkTag tag = tag_of(kind, file);
      files.add(file_and_weight(file).first);
      const auto is_same = [&](const auto& other) { return other.kind == kind && other.name == tag.name; };
      if (std::ranges::none_of(called, is_same)) asked.networks.push_back(tag);
    }
  };
  use("lora", arguments.loras, asked.files.loras);
  use("hypernet", arguments.hypernetworks, asked.files.hypernetworks);
  return asked;
}

}  // namespace emulsion::app
