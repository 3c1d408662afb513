// Textual inversion: vectors for a new word, learnt on a frozen model (Gal et al. 2022, arXiv:2208.01618).
#include <algorithm>
#include <optional>

#include "core/error.h"
#include "generate/embeddings.h"
#include "io/safetensors.h"
#include "models/prompt.h"
#include "train/methods.h"

namespace emulsion::train {
namespace {

/// Where the vectors begin: those of the words in `init`, over and over, or random ones.
Tensor first_vectors(const TextualInversionMethod& method, const models::ClipText& encoder, const Tensor& table,
                     const models::ClipTokenizer& tokenizer, const Rng& rng, uint64_t number) {
  if (method.init.empty()) {
    const Tensor normal = rng.normal({method.vectors, table.size(1)}, Purpose::init, hash_name(method.token), number);
    return normal * table.to(at::kFloat).std() + table.to(at::kFloat).mean(0);
  }
  std::vector<int64_t> ids;
  const models::WeightedChunk chunk = models::tokenise_weighted(tokenizer, {{method.init}}).front();
  for (const int64_t id : chunk.ids) {
    if (id == encoder.config().bos_token_id || id == encoder.config().eos_token_id) continue;
    if (id < encoder.config().vocab_size) ids.push_back(id);
  }
  EMULSION_CHECK(!ids.empty(), config, "[method] init = \"{}\" is no word that the text encoder knows", method.init);
  std::vector<Tensor> rows;
  for (int64_t i = 0; i < method.vectors; ++i) rows.push_back(table[ids[static_cast<size_t>(i) % ids.size()]]);
  return at::stack(rows).to(at::kFloat);
}

class TextualInversion : public DenoiserMethod {
 public:
  TextualInversion(const RunConfig& config, models::Model model) : DenoiserMethod(config, std::move(model)) {
    const auto readers = model_.need_text_readers("textual inversion");
    const auto parts = {&model_.text_encoder, &model_.text_encoder_2};
    size_t number = 0;
    for (const auto* part : parts) {
      if (!*part) continue;
      const Tensor table = (*part)->store.at("embeddings.token_embedding.weight").value;
      Tensor vectors = first_vectors(method(), (*part)->net, table, readers[number].tokenizer, rng_, number);
      vectors_.push_back(vectors.contiguous().set_requires_grad(true));
      ++number;
    }
    active_.emplace(model_, std::vector<generate::WordVectors>{{method().token, vectors_}});
  }

  std::string describe() const override {
    return fmt::format("the word '{}' in {} vector{}, beginning {}, on {}", method().token, method().vectors,
                       method().vectors == 1 ? "" : "s", method().init.empty() ? "at random" : "as '" + method().init + "'",
                       config_.model.path);
  }

  std::vector<Trainable> trainables() override {
    std::vector<Trainable> all;
    for (size_t i = 0; i < vectors_.size(); ++i) all.push_back({names()[i], &vectors_[i], /*decays=*/false});
    return all;
  }

  void prepare(const data::BatchSource& source, const std::filesystem::path& cache, Reporter& reporter) override {
    const auto& samples = source.index().samples;
    const auto holds = [&](const std::string& caption) { return caption.find(method().token) != caption.npos; };
    const auto without =
        std::ranges::count_if(samples, [&](const data::Sample& s) { return std::ranges::none_of(s.captions, holds); });
    EMULSION_CHECK(
        static_cast<size_t>(without) < samples.size(), config,
        "[method] expected captions with the word '{0}', none of {1} pictures has one; put it into the captions, or before "
        "all of them with data.sources.trigger = \"{0}\"",
        method().token, samples.size());
    if (without > 0)
      reporter.note(fmt::format("{} of {} pictures have no caption with '{}': nothing is learnt from them", without, samples.size(),
                                method().token));
    DenoiserMethod::prepare(source, cache, reporter);
  }

  std::filesystem::path save_result(const std::filesystem::path& run_folder) override {
    const auto file = run_folder / (method().token + ".safetensors");
    NamedTensors tensors;
    for (size_t i = 0; i < vectors_.size(); ++i) tensors.emplace_back(names()[i], vectors_[i].detach());
    io::write_safetensors(file, tensors, {{"modelspec.title", method().token}, {"steps", std::to_string(config_.steps)}});
    return file;
  }

 protected:
  bool text_encoder_changes() const override { return true; }
  std::vector<std::vector<models::NamedTokens>> learned_words() const override {
    return active_ ? active_->names() : std::vector<std::vector<models::NamedTokens>>();
  }

 private:
  const TextualInversionMethod& method() const { return std::get<TextualInversionMethod>(config_.method); }

  /// As A1111 names them in a file, and diffusers and ComfyUI read them.
  std::vector<std::string> names() const {
    return vectors_.size() == 1 ? std::vector<std::string>{"emb_params"} : std::vector<std::string>{"clip_l", "clip_g"};
  }

  std::vector<Tensor> vectors_;  // of each text encoder [n, D] float32
  std::optional<generate::ActiveEmbeddings> active_;
};

}  // namespace

std::unique_ptr<Method> make_textual_inversion_method(const RunConfig& config, models::Model model) {
  model.convert(dtype_of(config.dtype));
  return std::make_unique<TextualInversion>(config, std::move(model));
}

std::unique_ptr<Method> make_textual_inversion_method(const RunConfig& config) {
  return make_textual_inversion_method(config, loaded_model(config));
}

}  // namespace emulsion::train
