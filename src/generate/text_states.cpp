#include "generate/text_states.h"

#include "core/error.h"
#include "models/prompt.h"

namespace emulsion::generate {
namespace {

using models::Model;
using models::WeightedChunk;
using Chunks = std::vector<std::vector<WeightedChunk>>;  // [prompt][chunk]

Chunks chunks_of(const models::ClipTokenizer& tokenizer, const std::vector<std::string>& prompts, PromptSyntax syntax,
                 const std::vector<models::NamedTokens>& names) {
  Chunks all;
  for (const std::string& prompt : prompts) {
    all.push_back(syntax == PromptSyntax::plain ? models::tokenise_weighted(tokenizer, {{prompt}}, names)
                                                : models::tokenise_prompt(tokenizer, prompt, names));
  }
  return all;
}

std::vector<models::NamedTokens> names_of(const TextOptions& options, size_t encoder) {
  return encoder < options.names.size() ? options.names[encoder] : std::vector<models::NamedTokens>();
}

size_t longest(const Chunks& all) {
  size_t most = 1;
  for (const auto& chunks : all) most = std::max(most, chunks.size());
  return most;
}

void fill_up(Chunks& all, const models::ClipTokenizer& tokenizer, size_t count) {
  const WeightedChunk empty = models::tokenise_weighted(tokenizer, {{""}}).front();
  for (auto& chunks : all) chunks.resize(count, empty);
}

/// Scales token states by weight and restores each chunk's mean.
Tensor apply_weights(const Tensor& states, const Tensor& weights) {
  const Tensor scaled = states * weights.unsqueeze(-1);
  const Tensor before = states.mean({1, 2}, true), after = scaled.mean({1, 2}, true);
  return scaled * (before / after);
}

/// Which state of an encoder a model reads.
struct Layer {
  int64_t own;  // layers from the end that it was trained on
  bool normed;
};
constexpr Layer kOneEncoder = {1, true}, kTwoEncoders = {2, false};

Tensor chosen_state(const models::ClipText& encoder, const models::TextStates& states, const Layer& layer, int64_t skip) {
  const int64_t back = std::max(skip, layer.own), count = static_cast<int64_t>(states.hidden.size());
  EMULSION_CHECK(skip >= 0 && back < count, config, "[text encoder] clip skip {}: expected 0 to {} with {} layers", skip,
                 count - 1, count - 1);
  if (back == 1 && layer.normed) return states.last;
  const Tensor& state = states.hidden[static_cast<size_t>(count - back)];
  return layer.normed ? encoder.final_norm(state) : state;
}

struct Encoded {
  Tensor context;  // [B, 77 n, D]
  Tensor pooled;   // [B, P], of the first chunk
};

Encoded encode(const Model::TextReader& reader, const Chunks& all, const Layer& layer, int64_t skip) {
  std::vector<Tensor> windows;
  Tensor pooled;
  for (size_t window = 0; window < all.front().size(); ++window) {
    std::vector<Tensor> ids, weights;
    bool weighted = false;
    for (const auto& chunks : all) {
      const WeightedChunk& chunk = chunks[window];
      ids.push_back(at::tensor(chunk.ids, at::kLong));
      weights.push_back(at::tensor(chunk.weights, at::kDouble).to(at::kFloat));
      for (const double weight : chunk.weights) weighted = weighted || weight != 1;
    }
    const models::TextStates states = reader.encoder.forward(at::stack(ids).to(reader.device));
    const Tensor state = chosen_state(reader.encoder, states, layer, skip);
    windows.push_back(weighted ? apply_weights(state, at::stack(weights).to(state)) : state);
    if (window == 0) pooled = states.pooled;
  }
  return {at::cat(windows, 1), pooled};
}

/// [B, 1]: 0 for what is to be zeros, otherwise 1; undefined if nothing is.
Tensor keep_mask(const std::vector<std::string>& prompts, int64_t negatives) {
  std::vector<float> keep(prompts.size(), 1);
  bool any = false;
  for (size_t i = 0; i < prompts.size() && static_cast<int64_t>(i) < negatives; ++i) {
    if (!prompts[i].empty()) continue;
    keep[i] = 0;
    any = true;
  }
  return any ? at::tensor(keep).unsqueeze(1) : Tensor();
}

}  // namespace

Tensor size_ids(int64_t count, int64_t width, int64_t height) {
  const std::vector<double> row = {static_cast<double>(height), static_cast<double>(width), 0, 0,
                                   static_cast<double>(height), static_cast<double>(width)};
  return at::tensor(row, at::kDouble).to(at::kFloat).unsqueeze(0).repeat({count, 1});
}

int64_t chunk_count(const Model& model, const std::vector<std::string>& prompts, const TextOptions& options) {
  size_t count = static_cast<size_t>(options.chunks);
  const auto readers = model.need_text_readers("reading a prompt");
  for (size_t i = 0; i < readers.size(); ++i) {
    count = std::max(count, longest(chunks_of(readers[i].tokenizer, prompts, options.syntax, names_of(options, i))));
  }
  return static_cast<int64_t>(count);
}

models::Conditioning text_states(const Model& model, const std::vector<std::string>& prompts, const TextOptions& options) {
  EMULSION_CHECK(!prompts.empty(), config, "[text encoder] expected at least one prompt, got none");
  const auto readers = model.need_text_readers("reading a prompt");
  std::vector<Chunks> chunks;
  size_t count = static_cast<size_t>(options.chunks);
  for (size_t i = 0; i < readers.size(); ++i) {
    chunks.push_back(chunks_of(readers[i].tokenizer, prompts, options.syntax, names_of(options, i)));
    count = std::max(count, longest(chunks.back()));
  }

  models::Conditioning out;
  std::vector<Tensor> contexts;
  for (size_t i = 0; i < readers.size(); ++i) {
    fill_up(chunks[i], readers[i].tokenizer, count);
    const Encoded encoded =
        encode(readers[i], chunks[i], readers.size() == 1 ? kOneEncoder : kTwoEncoders, options.clip_skip);
    contexts.push_back(encoded.context);
    if (i == 1) out.pooled = encoded.pooled;
  }
  out.context = contexts.size() == 1 ? contexts.front() : at::cat(contexts, -1);

  if (model.zeros_for_empty_prompt) {
    if (const Tensor keep = keep_mask(prompts, options.negatives); keep.defined()) {
      out.context = out.context * keep.to(out.context).unsqueeze(-1);
      if (out.pooled.defined()) out.pooled = out.pooled * keep.to(out.pooled);
    }
  }
  if (model.unet && model.unet->net.config().text_time_conditioning) {
    const int64_t own = model.unet->net.config().sample_size * (model.vae ? model.vae->net.config().factor() : 8);
    out.size_ids = size_ids(static_cast<int64_t>(prompts.size()), options.width > 0 ? options.width : own,
                            options.height > 0 ? options.height : own)
                       .to(out.context.device());
  }
  return out;
}

}  // namespace emulsion::generate
