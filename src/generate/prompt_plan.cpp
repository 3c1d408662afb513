#include "generate/prompt_plan.h"

#include <algorithm>

#include "diffusion/guidance.h"
#include "models/prompt_parts.h"
#include "models/prompt_timeline.h"

namespace emulsion::generate {
namespace {

using Timeline = std::vector<models::TimedText>;

Timeline timeline_of(const std::string& text, PromptSyntax syntax, int64_t steps) {
  if (syntax == PromptSyntax::plain) return {{steps, text}};
  return models::prompt_timeline(text, steps);
}

std::vector<models::PromptPart> parts_of(const std::string& prompt, PromptSyntax syntax) {
  if (syntax == PromptSyntax::plain) return {{prompt, 1}};
  return models::split_prompt(prompt).parts;
}

}  // namespace

PromptPlan::PromptPlan(const models::Model& model, const std::vector<std::string>& prompts, const std::string& negative,
                       const TextOptions& text, const GuidanceOptions& guidance)
    : guidance_(guidance), pictures_(static_cast<int64_t>(prompts.size())) {
  std::vector<Timeline> timelines;
  for (int64_t i = 0; i < pictures_; ++i) {
    for (const models::PromptPart& part : parts_of(prompts[static_cast<size_t>(i)], text.syntax)) {
      guides_.push_back({i, part.weight});
      timelines.push_back(timeline_of(part.text, text.syntax, guidance.steps));
    }
  }
  const models::UNetConfig& unet = model.need_unet("drawing").config();
  const bool composed = static_cast<int64_t>(guides_.size()) > pictures_;
  negative_first_ = (guidance.cfg != 1 && unet.time_cond_proj_dim == 0) || composed;
  TextOptions options = text;
  options.negatives = negative_first_ ? pictures_ : 0;
  if (negative_first_) {
    timelines.insert(timelines.begin(), prompts.size(), timeline_of(negative, text.syntax, guidance.steps));
  }

  std::vector<std::vector<std::string>> known;
  for (int64_t step = 0; step < guidance.steps; ++step) {
    std::vector<std::string> texts;
    for (const Timeline& timeline : timelines) texts.push_back(models::text_at(timeline, step));
    const auto found = std::ranges::find(known, texts);
    by_step_.push_back(static_cast<size_t>(found - known.begin()));
    if (found != known.end()) continue;
    read_.push_back(text_states(model, texts, options).to(model.unet->store.params().front().value.options()));
    if (unet.time_cond_proj_dim > 0) {  // a model that was distilled with guidance reads the scale
      const Tensor scales = at::full({static_cast<int64_t>(texts.size())}, guidance.cfg, at::kFloat);
      read_.back().guidance = models::guidance_embedding(scales, unet.time_cond_proj_dim).to(read_.back().context);
    }
    known.push_back(std::move(texts));
  }
}

Tensor PromptPlan::rows(const Tensor& x) const {
  const bool one_each = static_cast<int64_t>(guides_.size()) == pictures_;
  if (one_each) return negative_first_ ? at::cat({x, x}) : x;
  std::vector<Tensor> rows = {x};
  for (const Guide& guide : guides_) rows.push_back(x.narrow(0, guide.picture, 1));
  return at::cat(rows);
}

const models::Conditioning& PromptPlan::conditioning(int64_t step) const {
  const int64_t last = static_cast<int64_t>(by_step_.size()) - 1;
  return read_[by_step_[static_cast<size_t>(std::clamp<int64_t>(step, 0, last))]];
}

Tensor PromptPlan::guide(const Tensor& out) const {
  if (!negative_first_) return out;
  const Tensor uncond = out.narrow(0, 0, pictures_);
  Tensor cond = out.narrow(0, pictures_, out.size(0) - pictures_);
  if (static_cast<int64_t>(guides_.size()) > pictures_) {
    std::vector<Tensor> sums;
    for (int64_t i = 0; i < pictures_; ++i) sums.push_back(uncond[i]);
    for (size_t row = 0; row < guides_.size(); ++row) {
      const auto [picture, weight] = guides_[row];
      Tensor& sum = sums[static_cast<size_t>(picture)];
      sum = sum + weight * (cond[static_cast<int64_t>(row)] - uncond[picture]);
    }
    cond = at::stack(sums);
  }
  return diffusion::cfg(uncond, cond, guidance_.cfg, guidance_.cfg_rescale);
}

}  // namespace emulsion::generate
