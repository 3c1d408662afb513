// What the network reads in each step of drawing: prompts that change on the way, and pictures with several prompts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "generate/text_states.h"
#include "models/model.h"

namespace emulsion::generate {

struct GuidanceOptions {
  double cfg = 7;          // 1: none
  double cfg_rescale = 0;  // see diffusion::cfg
  int64_t steps = 20;      // that the times in prompts count, see models::prompt_timeline
};

/// Prompts of a batch of pictures, encoded once each, however often they come back.
///
/// The weighted syntax has "[a:b:0.4]" and "[a|b]" (models/prompt_timeline.h) and "a AND b" (models/prompt_parts.h); tags
/// as "<lora:...>" are left out, as whoever draws activates them. The negative prompt has the times only.
class PromptPlan {
 public:
  /// `text.negatives` is set here.
  PromptPlan(const models::Model& model, const std::vector<std::string>& prompts, const std::string& negative,
             const TextOptions& text, const GuidanceOptions& guidance);

  /// The network's batch for pictures x [B, ...]: [R, ...], a row for each text that guides each picture.
  Tensor rows(const Tensor& x) const;

  /// What the rows are told in a step, counted from 0. Steps beyond the last read what the last reads.
  const models::Conditioning& conditioning(int64_t step) const;

  /// The network's output for the rows [R, C, h, w] -> for the pictures [B, C, h, w], with guidance:
  /// uncond + cfg * sum over texts of weight (cond - uncond).
  Tensor guide(const Tensor& out) const;

 private:
  struct Guide {
    int64_t picture;
    double weight;
  };

  GuidanceOptions guidance_;
  int64_t pictures_;
  bool negative_first_;                  // the first rows are unconditioned, one for each picture
  std::vector<Guide> guides_;            // of the other rows
  std::vector<models::Conditioning> read_;  // different ones
  std::vector<size_t> by_step_;          // index in read_
};

}  // namespace emulsion::generate
