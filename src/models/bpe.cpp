#include "models/bpe.h"

#include <queue>
#include <tuple>

#include "core/error.h"
#include "models/clip_merges.h"

namespace emulsion::models {
namespace {

constexpr std::string_view kEndOfWord = "</w>";

uint64_t pair_key(int64_t left, int64_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
}

// A word under merging: a doubly linked list in an array.
struct Symbol {
  int64_t id;
  int prev, next;  // -1: none
};

}  // namespace

BpeVocabulary::BpeVocabulary(BpeParts parts) : parts_(std::move(parts)) {
  ids_.reserve(parts_.tokens.size());
  for (size_t id = 0; id < parts_.tokens.size(); ++id) {
    if (!parts_.tokens[id].empty()) ids_.emplace(parts_.tokens[id], static_cast<int64_t>(id));
  }
  merges_.reserve(parts_.merges.size());
  for (size_t rank = 0; rank < parts_.merges.size(); ++rank) {
    const auto& [left, right] = parts_.merges[rank];
    for (const auto& token : {left, right, left + right}) {
      EMULSION_CHECK(id_of(token) >= 0, format,
                     "[{}] merge {} (\"{} {}\") expected token \"{}\" in the vocabulary, got none; "
                     "vocabulary and merges belong to different tokenizers",
                     parts_.origin, rank + 1, left, right, token);
    }
    merges_.emplace(pair_key(id_of(left), id_of(right)),
                    Merge{static_cast<int32_t>(rank), static_cast<int32_t>(id_of(left + right))});
  }
  const auto alphabet = byte_alphabet();
  for (int byte = 0; byte < 256; ++byte) {
    const auto& character = alphabet.character[byte];
    const int64_t inside = id_of(character), last = id_of(character + std::string(kEndOfWord));
    inside_[byte] = inside >= 0 ? inside : parts_.unknown;
    last_[byte] = last >= 0 ? last : parts_.unknown;
  }
}

int64_t BpeVocabulary::id_of(std::string_view token) const {
  const auto it = ids_.find(std::string(token));
  return it == ids_.end() ? -1 : it->second;
}

const BpeVocabulary::Merge* BpeVocabulary::find_merge(int64_t left, int64_t right) const {
  const auto it = merges_.find(pair_key(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

void BpeVocabulary::encode_piece(std::string_view piece, std::vector<int64_t>& ids) const {
  const int count = static_cast<int>(piece.size());
  std::vector<Symbol> word(piece.size());
  for (int i = 0; i < count; ++i) {
    const auto byte = static_cast<uint8_t>(piece[i]);
    word[i] = {i + 1 < count ? inside_[byte] : last_[byte], i - 1, i + 1 < count ? i + 1 : -1};
  }
  // Best merge first: lowest rank, then leftmost. Entries that a merge made stale are skipped.
  using Candidate = std::tuple<int32_t, int, int64_t, int64_t>;  // rank, position, left, right
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](int left) {
    if (left < 0 || word[left].next < 0) return;
    const int64_t a = word[left].id, b = word[word[left].next].id;
    if (const Merge* merge = find_merge(a, b)) queue.emplace(merge->rank, left, a, b);
  };
  for (int i = 0; i < count; ++i) offer(i);
  while (!queue.empty()) {
    const auto [rank, left, a, b] = queue.top();
    queue.pop();
    const int right = word[left].next;
    if (word[left].id != a || right < 0 || word[right].id != b) continue;
    word[left].id = find_merge(a, b)->id;
    word[left].next = word[right].next;
    if (word[right].next >= 0) word[word[right].next].prev = left;
    word[right].id = -1;
    offer(word[left].prev);
    offer(left);
  }
  for (int i = count > 0 ? 0 : -1; i >= 0; i = word[i].next) ids.push_back(word[i].id);
}

std::string BpeVocabulary::bytes_of(int64_t id) const {
  static const auto kBytes = [] {
    std::unordered_map<std::string, char> bytes;
    const auto alphabet = byte_alphabet();
    for (int b = 0; b < 256; ++b) bytes.emplace(alphabet.character[b], static_cast<char>(b));
    return bytes;
  }();
  std::string_view token = parts_.tokens[id];
  const bool ends_word = token.ends_with(kEndOfWord);
  if (ends_word) token.remove_suffix(kEndOfWord.size());
  std::string out;
  for (size_t i = 0; i < token.size();) {
    const size_t length = static_cast<uint8_t>(token[i]) < 0x80 ? 1 : 2;  // all below U+0800
    const auto it = kBytes.find(std::string(token.substr(i, length)));
    if (it != kBytes.end()) out.push_back(it->second);
    i += length;
  }
  if (ends_word) out.push_back(' ');
  return out;
}

ByteAlphabet byte_alphabet() {
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  };
  const auto two_bytes = [](int code) {
    return std::string{static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
  };
  ByteAlphabet out;
  int position = 0, next_code = 256;
  for (int b = 0; b < 256; ++b) {
    if (!printable(b)) continue;
    out.order[position++] = static_cast<uint8_t>(b);
    out.character[b] = b < 128 ? std::string(1, static_cast<char>(b)) : two_bytes(b);
  }
  for (int b = 0; b < 256; ++b) {
    if (printable(b)) continue;
    out.order[position++] = static_cast<uint8_t>(b);
    out.character[b] = two_bytes(next_code++);
  }
  return out;
}

BpeParts clip_parts(int64_t merges) {
  EMULSION_CHECK(merges >= 0 && merges <= kClipMerges, config,
                 "[tokenizer] expected 0 to {} merges, got {}", kClipMerges, merges);
  BpeParts parts;
  parts.origin = "CLIP vocabulary";
  parts.merges = parse_merges(clip_merges(), parts.origin);
  parts.merges.resize(static_cast<size_t>(merges));
  const auto alphabet = byte_alphabet();
  for (const std::string_view suffix : {std::string_view{}, kEndOfWord}) {
    for (const uint8_t byte : alphabet.order) {
      parts.tokens.push_back(alphabet.character[byte] + std::string(suffix));
    }
  }
  for (const auto& [left, right] : parts.merges) parts.tokens.push_back(left + right);
  parts.bos = static_cast<int64_t>(parts.tokens.size());
  parts.eos = parts.pad = parts.unknown = parts.bos + 1;
  parts.tokens.insert(parts.tokens.end(), {"<|startoftext|>", "<|endoftext|>"});
  parts.added = {{"<|startoftext|>", parts.bos}, {"<|endoftext|>", parts.eos}};
  return parts;
}

std::vector<std::pair<std::string, std::string>> parse_merges(std::string_view text,
                                                              const std::string& where) {
  std::vector<std::pair<std::string, std::string>> merges;
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ');
    EMULSION_CHECK(space != std::string_view::npos && space > 0 && space + 1 < line.size(), format,
                   "[{}:{}] expected two tokens separated by a space, got \"{}\"", where, number,
                   line);
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return merges;
}

}  // namespace emulsion::models
