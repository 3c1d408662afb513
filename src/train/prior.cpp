#include "train/prior.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/stop.h"
#include "data/index.h"
#include "generate/generate.h"
#include "io/image.h"

namespace emulsion::train {
namespace {

std::filesystem::path picture_file(const std::filesystem::path& folder, int64_t seed) {
  return folder / fmt::format("class-{:08}.png", seed);
}

/// Pictures of the user's own, and drawn ones.
int64_t pictures_in(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) return 0;
  data::DataConfig config;
  config.sources.emplace_back().path = folder.string();
  try {
    return static_cast<int64_t>(data::scan(config).samples.size());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    return 0;  // an empty folder
  }
}

int64_t times(int64_t wanted, int64_t there) {
  return std::max<int64_t>(1, std::llround(static_cast<double>(wanted) / static_cast<double>(std::max<int64_t>(1, there))));
}

}  // namespace

int64_t missing_class_pictures(const PriorConfig& prior, const std::filesystem::path& folder) {
  return std::max<int64_t>(0, prior.count - pictures_in(folder));
}

void draw_class_pictures(const PriorConfig& prior, const std::filesystem::path& folder, int64_t resolution,
                         const models::Model& model, Reporter& reporter) {
  const int64_t missing = missing_class_pictures(prior, folder);
  if (missing == 0) return;
  std::filesystem::create_directories(folder);
  Progress progress(reporter, "Drawing class pictures", missing, "pictures");
  const int64_t together = generate::pictures_together(resolution);
  int64_t drawn = 0, seed = prior.seed;
  while (drawn < missing) {
    EMULSION_CHECK(!stop_requested(), cancelled, "stopped while drawing class pictures; what is drawn is kept");
    while (std::filesystem::exists(picture_file(folder, seed))) ++seed;
    int64_t count = 0;
    while (count < std::min(together, missing - drawn) && !std::filesystem::exists(picture_file(folder, seed + count))) ++count;
    generate::Request request;
    request.prompts.assign(static_cast<size_t>(count), prior.prompt);
    request.negative = prior.negative;
    request.seed = seed;
    request.steps = prior.steps;
    request.cfg = prior.cfg;
    request.width = request.height = resolution;
    request.prompt_syntax = generate::PromptSyntax::plain;
    const Tensor pictures = generate::decode_latents(model, generate::sample_latents(model, request, reporter));
    for (int64_t i = 0; i < count; ++i) io::write_png(picture_file(folder, seed + i), pictures[i]);
    seed += count;
    progress.advance(drawn += count);
  }
}

data::DataConfig with_class_pictures(data::DataConfig data, const std::vector<PriorConfig>& priors,
                                     const std::vector<std::filesystem::path>& folders, int64_t draws) {
  int64_t of_classes = 0;
  for (const PriorConfig& prior : priors) of_classes += prior.count;
  const int64_t more = times(of_classes, draws);  // for the others
  for (data::SourceConfig& source : data.sources) source.repeats *= more;
  for (size_t i = 0; i < priors.size(); ++i) {
    data::SourceConfig& source = data.sources.emplace_back();
    source.path = folders[i].string();
    source.caption = priors[i].prompt;
    source.weight = priors[i].weight;
    source.repeats = times(draws * more, of_classes);
  }
  return data;
}

}  // namespace emulsion::train
