#include "models/prompt.h"

#include <charconv>
#include <optional>
#include <utility>

namespace emulsion::models {
namespace {

constexpr double kStep = 1.1;
constexpr std::string_view kBreak = "BREAK";

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

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

bool is_break(std::string_view text, size_t at) {
  return text.substr(at, kBreak.size()) == kBreak && (at == 0 || !is_word(text[at - 1])) &&
         (at + kBreak.size() >= text.size() || !is_word(text[at + kBreak.size()]));
}

// Handles what stands at `at` and returns where to go on.
size_t consume(std::string_view text, size_t at, Builder& out) {
  const char c = text[at];
  if (c == '\\' && at + 1 < text.size() &&
      std::string_view("()[]\\").find(text[at + 1]) != std::string_view::npos) {
    out.text(text.substr(at + 1, 1));
    return at + 2;
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
  if (c == 'B' && is_break(text, at)) {
    out.start_chunk();
    return skip_spaces(text, at + kBreak.size());
  }
  out.text(text.substr(at, 1));
  return at + 1;
}

struct WeightedIds {
  std::vector<int64_t> ids;
  std::vector<double> weights;
};

void append_chunks(const ClipTokenizer& tokenizer, const WeightedIds& part,
                   std::vector<WeightedChunk>& chunks) {
  size_t begin = 0;
  for (const size_t end : chunk_ends(part.ids, kClipLength - 2, tokenizer.comma())) {
    WeightedChunk chunk{std::vector<int64_t>(kClipLength, tokenizer.pad()),
                        std::vector<double>(kClipLength, 1.0)};
    chunk.ids[0] = tokenizer.bos();
    std::copy(part.ids.begin() + begin, part.ids.begin() + end, chunk.ids.begin() + 1);
    std::copy(part.weights.begin() + begin, part.weights.begin() + end, chunk.weights.begin() + 1);
    chunk.ids[end - begin + 1] = tokenizer.eos();
    chunks.push_back(std::move(chunk));
    begin = end;
  }
}

}  // namespace

std::vector<WeightedText> parse_prompt(std::string_view prompt) {
  Builder out;
  for (size_t at = 0; at < prompt.size();) at = consume(prompt, at, out);
  return out.finish();
}

std::vector<WeightedChunk> tokenise_weighted(const ClipTokenizer& tokenizer,
                                             const std::vector<WeightedText>& texts) {
  std::vector<WeightedChunk> chunks;
  WeightedIds part;
  for (const auto& piece : texts) {
    if (piece.starts_chunk) append_chunks(tokenizer, std::exchange(part, {}), chunks);
    const auto ids = tokenizer.encode(piece.text);
    part.ids.insert(part.ids.end(), ids.begin(), ids.end());
    part.weights.insert(part.weights.end(), ids.size(), piece.weight);
  }
  append_chunks(tokenizer, part, chunks);
  return chunks;
}

std::vector<WeightedChunk> tokenise_prompt(const ClipTokenizer& tokenizer,
                                           std::string_view prompt) {
  return tokenise_weighted(tokenizer, parse_prompt(prompt));
}

}  // namespace emulsion::models
