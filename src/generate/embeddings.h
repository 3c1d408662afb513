// Textual inversion: words with vectors of their own (Gal et al. 2022, arXiv:2208.01618), from files.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "generate/named_files.h"
#include "models/model.h"
#include "models/prompt.h"
#include "nn/leaf.h"

namespace emulsion::generate {

/// A word, and the vectors that stand for it in each text encoder of the model.
struct WordVectors {
  std::string name;
  std::vector<Tensor> vectors;  // [n, D] float32, one for each encoder
};

/// Reads a file of textual inversion: "clip_l" and "clip_g" (SDXL), "emb_params" or "string_to_param.*" (A1111), or one
/// tensor under any name (diffusers). A model with one text encoder takes what has its width.
/// Throws: Error{format} if it holds none of these; Error{shape} if the width is that of another model, naming both.
WordVectors load_embedding(const std::filesystem::path& file, const std::string& name, const models::Model& model);

/// Words whose vectors lie in an adapter's file ("bundle_emb.WORD.string_to_param.*", "bundle_emb.WORD.clip_l" and "clip_g"), as
/// A1111 and OneTrainer put them there. Throws: as load_embedding.
std::vector<WordVectors> bundled_embeddings(const std::filesystem::path& adapter, const models::Model& model);

/// Names from `files` that these texts hold, and those that they call "embedding:NAME".
/// Throws: Error{not_found} for a NAME that there is not.
std::vector<WordVectors> embeddings_of(const std::vector<std::string>& texts, const NamedFiles& files,
                                       const models::Model& model);

/// While it lives, the text encoders know the vectors, as ids behind their vocabularies. The vectors are shared, so that they can
/// be trained.
class ActiveEmbeddings {
 public:
  ActiveEmbeddings(models::Model& model, const std::vector<WordVectors>& embeddings);
  ~ActiveEmbeddings();
  ActiveEmbeddings(const ActiveEmbeddings&) = delete;
  ActiveEmbeddings& operator=(const ActiveEmbeddings&) = delete;

  /// For TextOptions::names.
  const std::vector<std::vector<models::NamedTokens>>& names() const { return names_; }

 private:
  /// Puts the words' rows behind a table.
  class MoreRows : public nn::LeafAdapter {
   public:
    explicit MoreRows(NamedTensors words) : words_(std::move(words)) {}
    std::optional<Tensor> more_rows() const override;
    NamedTensors params() const override { return words_; }

   private:
    NamedTensors words_;  // [n, D] each
  };
  struct Bound {
    nn::Leaf* leaf;
    std::unique_ptr<MoreRows> rows;
  };
  std::vector<Bound> bound_;
  std::vector<std::vector<models::NamedTokens>> names_;
};

}  // namespace emulsion::generate
