#include "models/tokenizer.h"

#include "core/error.h"
#include "models/bpe.h"
#include "models/text_pieces.h"

namespace emulsion::models {
namespace {

constexpr size_t kCommaReach = 20;

struct Found {
  size_t at = std::string_view::npos;
  size_t length = 0;
  int64_t id = -1;
};

// The leftmost, then longest, added token.
Found find_added(std::string_view text, const BpeParts& parts) {
  Found best;
  for (const auto& [token, id] : parts.added) {
    const size_t at = text.find(token);
    if (at < best.at || (at == best.at && at != text.npos && token.size() > best.length)) {
      best = {at, token.size(), id};
    }
  }
  return best;
}

}  // namespace

ClipTokenizer::ClipTokenizer(std::shared_ptr<const BpeVocabulary> vocabulary)
    : vocabulary_(std::move(vocabulary)) {}

ClipTokenizer ClipTokenizer::standard() { return truncated(kClipMerges); }

ClipTokenizer ClipTokenizer::truncated(int64_t merges) {
  return ClipTokenizer(std::make_shared<BpeVocabulary>(clip_parts(merges)));
}

ClipTokenizer ClipTokenizer::padded_with(int64_t id) const {
  EMULSION_CHECK(id >= 0 && id < vocab_size(), not_found, "[tokenizer] pad token: expected an id below {}, got {}",
                 vocab_size(), id);
  BpeParts parts = vocabulary_->parts();
  parts.pad = id;
  return ClipTokenizer(std::make_shared<BpeVocabulary>(std::move(parts)));
}

int64_t ClipTokenizer::vocab_size() const {
  return static_cast<int64_t>(vocabulary_->parts().tokens.size());
}
int64_t ClipTokenizer::bos() const { return vocabulary_->parts().bos; }
int64_t ClipTokenizer::eos() const { return vocabulary_->parts().eos; }
int64_t ClipTokenizer::pad() const { return vocabulary_->parts().pad; }
int64_t ClipTokenizer::comma() const { return vocabulary_->id_of(",</w>"); }

std::vector<int64_t> ClipTokenizer::encode(std::string_view text) const {
  if (const auto bad = first_invalid_utf8(text)) {
    throw Error(ErrorCode::format,
                fmt::format("[text] expected UTF-8, got byte 0x{:02x} at offset {}; save the text "
                            "as UTF-8",
                            static_cast<uint8_t>(text[*bad]), *bad));
  }
  std::vector<int64_t> ids;
  while (!text.empty()) {
    const Found found = find_added(text, vocabulary_->parts());
    for (const auto& piece : clip_pieces(text.substr(0, found.at))) {
      vocabulary_->encode_piece(piece, ids);
    }
    if (found.id < 0) break;
    ids.push_back(found.id);
    text.remove_prefix(found.at + found.length);
  }
  return ids;
}

std::vector<int64_t> ClipTokenizer::encode_padded(std::string_view text, int64_t max_length) const {
  EMULSION_CHECK(max_length >= 2, shape, "[tokenizer] expected a length of at least 2, got {}",
                 max_length);
  const auto ids = encode(text);
  const size_t count = std::min(ids.size(), static_cast<size_t>(max_length - 2));
  std::vector<int64_t> out(static_cast<size_t>(max_length), pad());
  out[0] = bos();
  std::copy_n(ids.begin(), count, out.begin() + 1);
  out[count + 1] = eos();
  return out;
}

std::vector<std::vector<int64_t>> ClipTokenizer::encode_chunks(std::string_view text,
                                                               int64_t max_length) const {
  EMULSION_CHECK(max_length >= 3, shape, "[tokenizer] expected a length of at least 3, got {}",
                 max_length);
  const auto ids = encode(text);
  std::vector<std::vector<int64_t>> chunks;
  size_t begin = 0;
  for (const size_t end : chunk_ends(ids, static_cast<size_t>(max_length - 2), comma())) {
    std::vector<int64_t> chunk(static_cast<size_t>(max_length), pad());
    chunk[0] = bos();
    std::copy(ids.begin() + begin, ids.begin() + end, chunk.begin() + 1);
    chunk[end - begin + 1] = eos();
    chunks.push_back(std::move(chunk));
    begin = end;
  }
  return chunks;
}

std::string ClipTokenizer::decode(std::span<const int64_t> ids) const {
  const auto& parts = vocabulary_->parts();
  std::string out;
  for (const int64_t id : ids) {
    EMULSION_CHECK(id >= 0 && id < vocab_size(), not_found,
                   "[tokenizer] expected ids below {}, got {}", vocab_size(), id);
    const bool special = std::any_of(parts.added.begin(), parts.added.end(),
                                     [&](const auto& token) { return token.second == id; });
    if (!special) out += vocabulary_->bytes_of(id);
  }
  while (out.ends_with(' ')) out.pop_back();
  return out;
}

std::vector<size_t> chunk_ends(std::span<const int64_t> ids, size_t capacity, int64_t comma) {
  std::vector<size_t> ends;
  size_t begin = 0;
  while (ids.size() - begin > capacity) {
    size_t end = begin + capacity;
    if (ids[end] != comma) {
      const size_t reach = end - std::min(kCommaReach, capacity - 1);
      for (size_t i = end; i-- > reach;) {
        if (ids[i] != comma) continue;
        end = i + 1;
        break;
      }
    }
    ends.push_back(end);
    begin = end;
  }
  ends.push_back(ids.size());
  return ends;
}

}  // namespace emulsion::models
