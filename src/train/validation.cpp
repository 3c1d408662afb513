#include "train/validation.h"

#include "core/error.h"
#include "core/stop.h"
#include "data/index.h"

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
      : data(held_back(config)), index(found(data, reporter)), plan(index, data, 1, 0), source(index, data, plan, 0) {}

  static data::Index found(const data::DataConfig& data, Reporter& reporter) {
    data::Index index = data::scan(data);
    data::check_pictures(index, reporter);
    for (const data::Problem& problem : index.problems) reporter.note("left out of validation: " + to_string(problem));
    EMULSION_CHECK(!index.samples.empty(), not_found, "[validation] every picture was left out, see above");
    return index;
  }

  const std::string& caption(int64_t sample) const { return index.samples[static_cast<size_t>(sample)].captions.front(); }

  data::Batch batch(const std::vector<int64_t>& samples) const {
    data::Batch batch;
    std::vector<Tensor> pixels, sizes;
    for (const int64_t sample : samples) {
      const data::Size size = plan.fit(sample).size;
      const auto& entry = index.samples[static_cast<size_t>(sample)];
      pixels.push_back(source.picture(sample, false));
      sizes.push_back(at::tensor({entry.height, entry.width, int64_t{0}, int64_t{0}, size.height, size.width}).to(at::kFloat));
      batch.samples.push_back(sample);
      batch.draws.push_back(sample);
      batch.ids.push_back(entry.id);
      batch.captions.push_back(caption(sample));
    }
    batch.pixels = at::stack(pixels);
    batch.size_ids = at::stack(sizes);
    return batch;
  }

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

  Progress progress(reporter, "Validation", static_cast<int64_t>(chosen_.size()), "pictures");
  double sum = 0, own_better = 0;
  size_t done = 0;
  for (const auto& samples : batches()) {
    EMULSION_CHECK(!stop_requested(), cancelled, "stopped while validating");
    const data::Batch batch = pictures_->batch(samples);
    const auto part = [&](const std::vector<std::string>& all) {
      return std::vector<std::string>(all.begin() + static_cast<int64_t>(done),
                                      all.begin() + static_cast<int64_t>(done + samples.size()));
    };
    Tensor own = at::zeros({batch.pixels.size(0)}, at::kDouble), other = own.clone();
    for (int64_t k = 0; k < timesteps_; ++k) {
      const double when = (static_cast<double>(k) + 0.5) / static_cast<double>(timesteps_);
      own += method.validation_losses(batch, batch.captions, when).to(own.options());
      if (!others.empty()) other += method.validation_losses(batch, part(others), when).to(own.options());
    }
    sum += own.sum().item<double>();
    own_better += own.lt(other).sum().item<double>();
    done += samples.size();
    progress.advance(static_cast<int64_t>(done));
  }
  const auto count = static_cast<double>(chosen_.size());
  Validated result = {sum / count / static_cast<double>(timesteps_), std::nullopt};
  if (!others.empty()) result.agreement = own_better / count;
  return result;
}

}  // namespace emulsion::train
