// A byte-level byte-pair vocabulary whose tokens mark the end of a word with "</w>".
//
// Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units",
// arXiv:1508.07909; bytes as printable characters as in GPT-2.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace emulsion::models {

/// Everything a vocabulary is made of. Tokens are spelt with one printable character per byte.
struct BpeParts {
  std::vector<std::string> tokens;                          // by id; empty where an id is not used
  std::vector<std::pair<std::string, std::string>> merges;  // most important first
  std::vector<std::pair<std::string, int64_t>> added;       // matched in the raw text, never split
  int64_t bos = 0, eos = 0, pad = 0, unknown = 0;
  std::string origin;  // for messages: where it came from
};

class BpeVocabulary {
 public:
  /// Throws: Error{format} if a merge names a token that is not there.
  explicit BpeVocabulary(BpeParts parts);

  const BpeParts& parts() const { return parts_; }

  /// Appends the ids of one piece of text (a word), its bytes taken as they are.
  void encode_piece(std::string_view piece, std::vector<int64_t>& ids) const;

  /// The bytes a token stands for; a word's last token ends with a space.
  std::string bytes_of(int64_t id) const;

  /// -1 if there is none.
  int64_t id_of(std::string_view token) const;

 private:
  struct Merge {
    int32_t rank;
    int32_t id;
  };
  const Merge* find_merge(int64_t left, int64_t right) const;

  BpeParts parts_;
  std::unordered_map<std::string, int64_t> ids_;
  std::unordered_map<uint64_t, Merge> merges_;
  std::array<int64_t, 256> inside_;  // id of a byte inside a word
  std::array<int64_t, 256> last_;    // id of a byte at the end of a word
};

/// The printable character (UTF-8) for each byte, and the order of the bytes in CLIP's vocabulary.
struct ByteAlphabet {
  std::array<std::string, 256> character;
  std::array<uint8_t, 256> order;
};
ByteAlphabet byte_alphabet();

/// The first `merges` merges of CLIP's vocabulary with the ids that follow from them.
BpeParts clip_parts(int64_t merges);

/// How many merges CLIP's vocabulary has.
inline constexpr int64_t kClipMerges = 48894;

/// Splits lines "left right" into pairs; `#version` lines and empty lines are skipped.
/// Throws: Error{format} with `where` and the line number.
std::vector<std::pair<std::string, std::string>> parse_merges(std::string_view text,
                                                              const std::string& where);

}  // namespace emulsion::models
