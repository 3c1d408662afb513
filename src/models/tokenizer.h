// The tokenizer of CLIP text encoders: byte-level byte-pair encoding, the same ids as the
// CLIPTokenizer of transformers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace emulsion::models {

class BpeVocabulary;

/// Tokens that a text encoder reads at once, begin and end included.
inline constexpr int64_t kClipLength = 77;

/// Immutable, cheap to copy (copies share the vocabulary), safe to use from several threads.
class ClipTokenizer {
 public:
  /// The vocabulary of all CLIP models in use: 49,408 tokens, padded with the end token.
  static ClipTokenizer standard();

  /// The first `merges` merges of the standard vocabulary. Ordinary ids are those of the standard
  /// one; begin and end follow them: 512 + merges and 512 + merges + 1.
  /// Throws: Error{config} unless 0 <= merges <= 48894.
  static ClipTokenizer truncated(int64_t merges);

  /// A `tokenizer` folder of a model: vocab.json and merges.txt, or tokenizer.json alone; begin,
  /// end, padding and added tokens from the other files where present.
  /// Throws: Error{not_found, io}; Error{format} naming file and entry.
  static ClipTokenizer from_folder(const std::filesystem::path& folder);

  /// The same vocabulary, padded with another token: OpenCLIP's encoders were trained with id 0.
  /// Unlike a pad token read from a file it is not cut out of the text: "!" stays an ordinary word.
  ClipTokenizer padded_with(int64_t id) const;

  int64_t vocab_size() const;
  int64_t bos() const;
  int64_t eos() const;
  int64_t pad() const;

  /// Ids without begin and end. Throws: Error{format} with the byte offset if `text` is not UTF-8.
  std::vector<int64_t> encode(std::string_view text) const;

  /// Begin, at most max_length - 2 ids, end, then padding: exactly `max_length` ids.
  std::vector<int64_t> encode_padded(std::string_view text, int64_t max_length = kClipLength) const;

  /// A text of any length as padded windows of `max_length`, at least one. A window that would
  /// break a phrase ends after the last comma within its last 20 ids instead.
  std::vector<std::vector<int64_t>> encode_chunks(std::string_view text,
                                                  int64_t max_length = kClipLength) const;

  /// Text of ordinary ids, as transformers gives it with skip_special_tokens: words separated by
  /// one space. Throws: Error{not_found} for an id outside the vocabulary.
  std::string decode(std::span<const int64_t> ids) const;

  /// The id of a comma that ends a word; -1 if the vocabulary has none.
  int64_t comma() const;

  /// Writes vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json, as
  /// transformers' CLIPTokenizer.from_pretrained reads them.
  void save(const std::filesystem::path& folder) const;

 private:
  explicit ClipTokenizer(std::shared_ptr<const BpeVocabulary> vocabulary);

  std::shared_ptr<const BpeVocabulary> vocabulary_;
};

/// Where to cut `ids` into windows of at most `capacity`: the end of each window, the last one
/// being ids.size(). `comma` as ClipTokenizer::comma.
std::vector<size_t> chunk_ends(std::span<const int64_t> ids, size_t capacity, int64_t comma);

}  // namespace emulsion::models
