// Words with vectors of their own that a method trains: textual inversion, and beside an adapter (pivotal tuning).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/random.h"
#include "data/loader.h"
#include "generate/embeddings.h"
#include "models/model.h"
#include "train/config.h"
#include "train/method.h"

namespace emulsion::train {

/// While it lives, the model's text encoders know the words. Source: Gal et al. 2022, arXiv:2208.01618; with an adapter beside
/// them, Roich et al. 2021, arXiv:2106.05744, as cog-sdxl and diffusers' advanced scripts have it.
class LearnedWords {
 public:
  /// Vectors begin as those of the words of WordConfig::init, over and over, or random. The model must outlive it.
  /// Throws: Error{config} for an init that the text encoders do not know.
  LearnedWords(models::Model& model, const std::vector<WordConfig>& words, const Rng& rng);

  /// Each text encoder's vectors of each word, under the name that they have in `bundle`.
  std::vector<Trainable> trainables();
  /// One word as A1111 names it in a file, and diffusers and ComfyUI read it: "emb_params", or "clip_l" and "clip_g".
  NamedTensors file_of(size_t word) const;
  /// All of them as A1111 and OneTrainer put them into an adapter's file: "bundle_emb.WORD.string_to_param.*", or
  /// "bundle_emb.WORD.clip_l" and "bundle_emb.WORD.clip_g".
  NamedTensors bundle() const;

  /// For TextOptions::names.
  const std::vector<std::vector<models::NamedTokens>>& names() const { return active_->names(); }

  /// Notes pictures whose captions hold none of the words. Throws: Error{config} for a word that no caption holds.
  void check_captions(const data::Index& index, Reporter& reporter) const;

 private:
  const std::vector<WordConfig> configs_;
  std::vector<generate::WordVectors> words_;
  std::unique_ptr<generate::ActiveEmbeddings> active_;
};

}  // namespace emulsion::train
