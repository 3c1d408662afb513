#include "models/prompt.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <span>
#include <utility>

#include "core/error.h"
#include "models/prompt_characters.h"

namespace emulsion::models {
namespace {

constexpr double kStep = 1.1;
constexpr std::string_view kBreak = "BREAK";
constexpr size_t kMaxDepth = 100;  // brackets within brackets beyond this are text: 1.1^100 is 13,781

size_t skip_spaces(std::string_view text, size_t at) {
  while (at < text.size() && is_space(text[at])) ++at;
  return at;
}

struct Closing {
  double weight;
  size_t end;  // behind the bracket
};

// ": 1.3 )" at `at`, a colon.
std::optional<Closing> read_weight(std::string_view text, size_t at) {
  size_t begin = skip_spaces(text, at + 1);
  if (begin < text.size() && text[begin] == '+') ++begin;
  // from_chars also reads "inf" and "nan"; words are no weights.
  const size_t digit = begin + (begin < text.size() && text[begin] == '-');
  if (digit >= text.size() || std::string_view(".0123456789").find(text[digit]) == text.npos) {
    return std::nullopt;
  }
  double weight = 0;
  const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + text.size(), weight,
                                             std::chars_format::fixed);
  if (error != std::errc{}) return std::nullopt;
  const size_t bracket = skip_spaces(text, static_cast<size_t>(stop - text.data()));
  if (bracket >= text.size() || text[bracket] != ')') return std::nullopt;
  return Closing{weight, bracket + 1};
}

// Collects stretches of text and scales those inside a bracket once it closes.
class Builder {
 public:
  void text(std::string_view piece) { pending_ += piece; }

  void open(char bracket) {
    if (opened(bracket).size() == kMaxDepth) return text({&bracket, 1});
    flush();
    opened(bracket).push_back(out_.size());
  }

  // Whether a `bracket` is open; then everything since the last one is scaled. Round and square
  // brackets are counted apart, so "(a [b) c]" is legal.
  bool close(char bracket, double weight) {
    auto& starts = opened(bracket);
    if (starts.empty()) return false;
    flush();
    scale(starts.back(), weight);
    starts.pop_back();
    return true;
  }

  void start_chunk() {
    flush();
    out_.push_back({"", 1, true});
  }

  std::vector<WeightedText> finish() {
    flush();
    for (const size_t first : round_) scale(first, kStep);
    for (const size_t first : square_) scale(first, 1 / kStep);
    return joined();
  }

 private:
  std::vector<size_t>& opened(char bracket) { return bracket == '(' ? round_ : square_; }

  void flush() {
    if (!pending_.empty()) out_.push_back({std::exchange(pending_, {}), 1, false});
  }

  void scale(size_t first, double weight) {
    for (size_t i = first; i < out_.size(); ++i) out_[i].weight *= weight;
  }

  std::vector<WeightedText> joined() {
    std::vector<WeightedText> result;
    bool starts_chunk = false;
    for (auto& piece : out_) {
      starts_chunk |= piece.starts_chunk;
      if (piece.text.empty()) continue;
      if (!result.empty() && !starts_chunk && result.back().weight == piece.weight) {
        result.back().text += piece.text;
        continue;
      }
      result.push_back({std::move(piece.text), piece.weight, std::exchange(starts_chunk, false)});
    }
    if (result.empty() || starts_chunk) result.push_back({"", 1, starts_chunk});
    return result;
  }

  std::vector<WeightedText> out_;
  std::vector<size_t> round_, square_;  // where the open brackets start in out_
  std::string pending_;
};

// Handles what stands at `at` and returns where to go on.
size_t consume(std::string_view text, size_t at, Builder& out) {
  const char c = text[at];
  if (c == '\\') {
    const bool escapes = at + 1 < text.size() && std::string_view("()[]\\").find(text[at + 1]) != text.npos;
    if (escapes) out.text(text.substr(at + 1, 1));
    return at + (escapes ? 2 : 1);
  }
  if (c == '(' || c == '[') {
    out.open(c);
    return at + 1;
  }
  if (c == ':') {
    const auto closing = read_weight(text, at);
    if (closing && out.close('(', closing->weight)) return closing->end;
  }
  if (c == ')' && out.close('(', kStep)) return at + 1;
  if (c == ']' && out.close('[', 1 / kStep)) return at + 1;
  if (c == 'B' && is_whole_word(text, at, kBreak)) {
    out.start_chunk();
    return skip_spaces(text, at + kBreak.size());
  }
  out.text(text.substr(at, 1));
  return at + 1;
}

struct WeightedIds {
  std::vector<int64_t> ids;
  std::vector<double> weights;
  std::vector<bool> continues;  // the id belongs to the same name as the one before it
};

/// A name as the tokens that it is written with.
struct Spelling {
  std::vector<int64_t> ids;
  const NamedTokens* name;
};

std::vector<Spelling> spell(const ClipTokenizer& tokenizer, const std::vector<NamedTokens>& names) {
  constexpr int64_t kMost = kClipLength - 2;
  std::vector<Spelling> spellings;
  for (const NamedTokens& name : names) {
    EMULSION_CHECK(name.count >= 1 && name.count <= kMost, config,
                   "[prompt] embedding '{}': expected 1 to {} vectors, got {}", name.name, kMost, name.count);
    spellings.push_back({tokenizer.encode(name.name), &name});
  }
  std::erase_if(spellings, [](const Spelling& spelling) { return spelling.ids.empty(); });
  std::ranges::stable_sort(spellings, [](const Spelling& a, const Spelling& b) { return a.ids.size() > b.ids.size(); });
  return spellings;
}

/// The longest name whose tokens begin `ids`, or nullptr.
const Spelling* find_name(const std::vector<Spelling>& spellings, std::span<const int64_t> ids) {
  for (const Spelling& spelling : spellings) {
    if (ids.size() >= spelling.ids.size() && std::equal(spelling.ids.begin(), spelling.ids.end(), ids.begin())) {
      return &spelling;
    }
  }
  return nullptr;
}

void append_ids(const std::vector<int64_t>& ids, double weight, const std::vector<Spelling>& spellings,
                WeightedIds& part) {
  const auto add = [&](int64_t id, bool continues) {
    part.ids.push_back(id);
    part.weights.push_back(weight);
    part.continues.push_back(continues);
  };
  for (size_t at = 0; at < ids.size();) {
    const Spelling* found = find_name(spellings, std::span(ids).subspan(at));
    if (found == nullptr) {
      add(ids[at++], false);
      continue;
    }
    for (int64_t i = 0; i < found->name->count; ++i) add(found->name->first + i, i > 0);
    at += found->ids.size();
  }
}

/// Where the window that starts at `begin` ends.
size_t window_end(const WeightedIds& part, size_t begin, int64_t comma) {
  constexpr size_t kCapacity = kClipLength - 2;
  const std::span<const int64_t> rest = std::span(part.ids).subspan(begin);
  // What lies beyond the next window has no say in where this one ends.
  size_t end = begin + chunk_ends(rest.first(std::min(rest.size(), 2 * kCapacity)), kCapacity, comma).front();
  while (end < part.ids.size() && part.continues[end]) --end;
  return end;
}

void append_chunks(const ClipTokenizer& tokenizer, const WeightedIds& part,
                   std::vector<WeightedChunk>& chunks) {
  size_t begin = 0;
  do {
    const size_t end = window_end(part, begin, tokenizer.comma());
    WeightedChunk chunk{std::vector<int64_t>(kClipLength, tokenizer.pad()),
                        std::vector<double>(kClipLength, 1.0)};
    chunk.ids[0] = tokenizer.bos();
    std::copy(part.ids.begin() + begin, part.ids.begin() + end, chunk.ids.begin() + 1);
    std::copy(part.weights.begin() + begin, part.weights.begin() + end, chunk.weights.begin() + 1);
    chunk.ids[end - begin + 1] = tokenizer.eos();
    chunks.push_back(std::move(chunk));
    begin = end;
  } while (begin < part.ids.size());
}

}  // namespace

std::vector<WeightedText> parse_prompt(std::string_view prompt) {
  Builder out;
  for (size_t at = 0; at < prompt.size();) at = consume(prompt, at, out);
  return out.finish();
}

std::vector<WeightedChunk> tokenise_weighted(const ClipTokenizer& tokenizer,
                                             const std::vector<WeightedText>& texts,
                                             const std::vector<NamedTokens>& names) {
  const std::vector<Spelling> spellings = spell(tokenizer, names);
  std::vector<WeightedChunk> chunks;
  WeightedIds part;
  for (const auto& piece : texts) {
    if (piece.starts_chunk) append_chunks(tokenizer, std::exchange(part, {}), chunks);
    append_ids(tokenizer.encode(piece.text), piece.weight, spellings, part);
  }
  append_chunks(tokenizer, part, chunks);
  return chunks;
}

std::vector<WeightedChunk> tokenise_prompt(const ClipTokenizer& tokenizer, std::string_view prompt,
                                           const std::vector<NamedTokens>& names) {
  return tokenise_weighted(tokenizer, parse_prompt(prompt), names);
}

}  // namespace emulsion::models
