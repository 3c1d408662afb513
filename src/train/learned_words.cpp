#include "train/learned_words.h"

#include <algorithm>

#include "core/error.h"
#include "models/prompt.h"

namespace emulsion::train {
namespace {

Tensor random_vectors(const WordConfig& word, const Tensor& table, const Rng& rng, uint64_t encoder) {
  const Tensor normal = rng.normal({word.vectors, table.size(1)}, Purpose::init, hash_name(word.token), encoder);
  return normal * table.to(at::kFloat).std() + table.to(at::kFloat).mean(0);
}

Tensor vectors_of_words(const WordConfig& word, const models::ClipText& encoder, const Tensor& table,
                        const models::ClipTokenizer& tokenizer) {
  std::vector<int64_t> ids;
  const models::WeightedChunk chunk = models::tokenise_weighted(tokenizer, {{word.init}}).front();
  for (const int64_t id : chunk.ids) {
    if (id == encoder.config().bos_token_id || id == encoder.config().eos_token_id) continue;
    if (id < encoder.config().vocab_size) ids.push_back(id);
  }
  EMULSION_CHECK(!ids.empty(), config, "[method] init = \"{}\" is no word that the text encoder knows", word.init);
  std::vector<Tensor> rows;
  for (int64_t i = 0; i < word.vectors; ++i) rows.push_back(table[ids[static_cast<size_t>(i) % ids.size()]]);
  return at::stack(rows).to(at::kFloat);
}

/// What A1111 calls the vectors of each encoder, in a file of their own.
std::vector<std::string> tensor_names(size_t encoders) {
  return encoders == 1 ? std::vector<std::string>{"emb_params"} : std::vector<std::string>{"clip_l", "clip_g"};
}

}  // namespace

LearnedWords::LearnedWords(models::Model& model, const std::vector<WordConfig>& words, const Rng& rng) : configs_(words) {
  const auto readers = model.need_text_readers("training a word");
  for (const WordConfig& word : configs_) {
    generate::WordVectors learned{word.token, {}};
    for (const auto* part : {&model.text_encoder, &model.text_encoder_2}) {
      if (!*part) continue;
      const size_t number = learned.vectors.size();
      const Tensor table = (*part)->store.at("embeddings.token_embedding.weight").value;
      const Tensor vectors = word.init.empty() ? random_vectors(word, table, rng, number)
                                               : vectors_of_words(word, (*part)->net, table, readers[number].tokenizer);
      learned.vectors.push_back(vectors.contiguous().set_requires_grad(true));
    }
    words_.push_back(std::move(learned));
  }
  active_ = std::make_unique<generate::ActiveEmbeddings>(model, words_);
}

std::vector<Trainable> LearnedWords::trainables() {
  std::vector<Trainable> all;
  const NamedTensors names = bundle();
  for (size_t i = 0; i < words_.size(); ++i) {
    for (Tensor& vectors : words_[i].vectors) all.push_back({names[all.size()].first, &vectors, /*decays=*/false, configs_[i].lr});
  }
  return all;
}

NamedTensors LearnedWords::file_of(size_t word) const {
  NamedTensors tensors;
  const std::vector<Tensor>& vectors = words_.at(word).vectors;
  for (size_t i = 0; i < vectors.size(); ++i) tensors.emplace_back(tensor_names(vectors.size())[i], vectors[i].detach());
  return tensors;
}

NamedTensors LearnedWords::bundle() const {
  NamedTensors all;
  for (size_t i = 0; i < words_.size(); ++i) {
    for (const auto& [name, vectors] : file_of(i)) {
      all.emplace_back(fmt::format("bundle_emb.{}.{}", words_[i].name, name == "emb_params" ? "string_to_param.*" : name), vectors);
    }
  }
  return all;
}

void LearnedWords::check_captions(const data::Index& index, Reporter& reporter) const {
  for (const WordConfig& word : configs_) {
    const auto holds = [&](const std::string& caption) { return caption.find(word.token) != caption.npos; };
    const auto without = std::ranges::count_if(
        index.samples, [&](const data::Sample& sample) { return std::ranges::none_of(sample.captions, holds); });
    EMULSION_CHECK(
        static_cast<size_t>(without) < index.samples.size(), config,
        "[method] expected captions with the word '{0}', none of {1} pictures has one; put it into the captions, or before "
        "all of them with data.sources.trigger = \"{0}\"",
        word.token, index.samples.size());
    if (without > 0)
      reporter.note(fmt::format("{} of {} pictures have no caption with '{}': nothing is learnt from them", without,
                                index.samples.size(), word.token));
  }
}

}  // namespace emulsion::train
