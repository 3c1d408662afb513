#include "train/validation.h"

#include "core/error.h"
#include "core/stop.h"
#include "data/index.h"
#include "data/index_file.h"

namespace emulsion::train {
namespace {

/// The training pictures' settings, with nothing left to chance.
data::DataConfig held_back(const RunConfig& config) {
  data::DataConfig data = config.data;
  data.sources = config.validation.sources;
  data.crop = data::Crop::center;
  data.crop_size = 0;
  data.flip = data.random_background = data.caption_dropout = data.tag_dropout = 0;
  data.shuffle_tags = false;
  return data;
}

/// Entry `i` is another's caption: the next one that differs. Empty if all are the same.
std::vector<std::string> exchanged(const std::vector<std::string>& captions) {
  std::vector<std::string> others;
  for (size_t i = 0; i < captions.size(); ++i) {
    size_t j = (i + 1) % captions.size();
    while (j != i && captions[j] == captions[i]) j = (j + 1) % captions.size();
    if (j == i) return {};
    others.push_back(captions[j]);
  }
  return others;
}

}  // namespace

struct Validation::Pictures {
  Pictures(const RunConfig& config, Reporter& reporter)
      : data(held_back(config)), index(found(config, data, reporter)), plan(index, data, 1, 0), source(index, data, plan, 0) {}

  static data::Index found(const RunConfig& config, const data::DataConfig& data, Reporter& reporter) {
    const std::filesystem::path file = std::filesystem::path(config.output) / config.name / "cache" / "validation-index";
    data::Index index = data::open_index(data, file, reporter);
    data::save_index(index, data, file);
    for (const data::Problem& problem : index.problems) reporter.note("left out of validation: " + to_string(problem));
    EMULSION_CHECK(!index.samples.empty(), not_found, "[validation] every picture was left out, see above");
    return index;
  }

  std::string caption(int64_t sample) const { return index.samples[static_cast<size_t>(sample)].captions.front(); }

  data::DataConfig data;
  data::Index index;
  data::BatchPlan plan;
  data::BatchSource source;
};

Validation::Validation(const RunConfig& config, Reporter& reporter)
    : pictures_(std::make_unique<Pictures>(config, reporter)),
      batch_size_(config.batch_size),
      timesteps_(config.validation.timesteps) {
  const auto found = static_cast<int64_t>(pictures_->index.samples.size());
  const int64_t count = std::min(found, config.validation.count);
  for (int64_t i = 0; i < count; ++i) chosen_.push_back(i * found / count);
}

Validation::~Validation() = default;

/// Neighbours of one size, as many as train together.
std::vector<std::vector<int64_t>> Validation::batches() const {
  std::vector<std::vector<int64_t>> all;
  const auto size_of = [&](int64_t sample) { return pictures_->plan.fit(sample).size; };
  for (const int64_t sample : chosen_) {
    const bool joins =
        !all.empty() && static_cast<int64_t>(all.back().size()) < batch_size_ && size_of(all.back().front()) == size_of(sample);
    joins ? all.back().push_back(sample) : all.push_back({sample});
  }
  return all;
}

Validated Validation::judge(const Method& method, Reporter& reporter) const {
  const at::NoGradGuard no_grad;
  std::vector<std::string> captions;
  for (const int64_t sample : chosen_) captions.push_back(pictures_->caption(sample));
  const std::vector<std::string> others = method.reads_captions() ? exchanged(captions) : std::vector<std::string>();

  std::vector<double> whens;
  for (int64_t k = 0; k < timesteps_; ++k) whens.push_back((static_cast<double>(k) + 0.5) / static_cast<double>(timesteps_));

  Progress progress(reporter, "Validation", static_cast<int64_t>(chosen_.size()), "pictures");
  double sum = 0, own_better = 0;
  int64_t done = 0;
  for (const auto& samples : batches()) {
    EMULSION_CHECK(!stop_requested(), cancelled, "stopped while validating");
    const data::Batch batch = pictures_->source.fixed(samples);
    std::vector<std::vector<std::string>> readings = {batch.captions};
    const auto count = static_cast<int64_t>(samples.size());
    if (!others.empty()) readings.emplace_back(others.begin() + done, others.begin() + done + count);
    const Tensor losses = method.validation_losses(batch, readings, whens);
    sum += losses[0].sum().item<double>();
    if (!others.empty()) own_better += losses[0].lt(losses[1]).sum().item<double>();
    done += count;
    progress.advance(done);
  }
  Validated result = {sum / static_cast<double>(done), std::nullopt};
  if (!others.empty()) result.agreement = own_better / static_cast<double>(done);
  return result;
}

}  // namespace emulsion::train
