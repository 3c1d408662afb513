// Textual inversion: vectors for a new word, learnt on a frozen model (Gal et al. 2022, arXiv:2208.01618).
#include "core/error.h"
#include "io/safetensors.h"
#include "train/learned_words.h"
#include "train/methods.h"

namespace emulsion::train {
namespace {

class TextualInversion : public DenoiserMethod {
 public:
  TextualInversion(const RunConfig& config, models::Model model)
      : DenoiserMethod(config, std::move(model)), words_(model_, {method()}, rng_) {}

  std::string describe() const override {
    return fmt::format("the word '{}' in {} vector{}, beginning {}, on {}", method().token, method().vectors,
                       method().vectors == 1 ? "" : "s", method().init.empty() ? "at random" : "as '" + method().init + "'",
                       config_.model.path);
  }

  std::vector<Trainable> trainables() override { return words_.trainables(); }

  void prepare(const data::BatchSource& source, const std::filesystem::path& cache, Reporter& reporter) override {
    words_.check_captions(source.index(), reporter);
    DenoiserMethod::prepare(source, cache, reporter);
  }

  std::filesystem::path save_result(const std::filesystem::path& run_folder) override {
    const auto file = run_folder / (method().token + ".safetensors");
    io::write_safetensors(file, words_.file_of(0),
                          {{"modelspec.title", method().token}, {"steps", std::to_string(config_.steps)}});
    return file;
  }

 protected:
  bool text_encoder_changes() const override { return true; }
  std::vector<std::vector<models::NamedTokens>> learned_words() const override { return words_.names(); }

 private:
  const TextualInversionMethod& method() const { return std::get<TextualInversionMethod>(config_.method); }

  LearnedWords words_;
};

}  // namespace

std::unique_ptr<Method> make_textual_inversion_method(const RunConfig& config, models::Model model) {
  model.convert(dtype_of(config.dtype));
  return std::make_unique<TextualInversion>(config, std::move(model));
}

std::unique_ptr<Method> make_textual_inversion_method(const RunConfig& config) {
  return make_textual_inversion_method(config, loaded_model(config, dtype_of(config.dtype)));
}

}  // namespace emulsion::train
