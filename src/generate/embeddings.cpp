#include "generate/embeddings.h"

#include <algorithm>
#include <array>
#include <map>

#include "core/error.h"
#include "io/tensor_file.h"
#include "models/prompt_characters.h"
#include "weights/adapter_file.h"

namespace emulsion::generate {
namespace {

constexpr std::string_view kCall = "embedding:";
constexpr const char* kTable = "embeddings.token_embedding";

std::vector<models::Part<models::ClipText>*> encoders_of(const models::Model& model) {
  std::vector<models::Part<models::ClipText>*> encoders;
  for (const auto* part : {&model.text_encoder, &model.text_encoder_2}) {
    if (*part) encoders.push_back(part->get());
  }
  return encoders;
}

/// One vector is a matrix of one row.
Tensor as_rows(const Tensor& tensor) {
  return (tensor.dim() == 1 ? tensor.unsqueeze(0) : tensor).to(at::kFloat).contiguous();
}

std::map<std::string, Tensor> tensors_of(const io::TensorFile& file) {
  std::map<std::string, Tensor> all;
  for (const io::TensorFile::Entry& entry : file.entries()) all[entry.name] = file.tensor(entry.name);
  return all;
}

/// Whatever may be the vectors, in the order of the encoders that they are for.
std::vector<Tensor> vectors_in(const std::map<std::string, Tensor>& tensors) {
  std::vector<Tensor> found;
  for (const char* name : {"clip_l", "clip_g"}) {
    if (tensors.contains(name)) found.push_back(as_rows(tensors.at(name)));
  }
  if (!found.empty()) return found;
  for (const char* name : {"emb_params", "string_to_param.*"}) {
    if (tensors.contains(name)) return {as_rows(tensors.at(name))};
  }
  if (tensors.size() == 1) return {as_rows(tensors.begin()->second)};
  return {};
}

std::vector<int64_t> widths_of(const std::vector<Tensor>& vectors) {
  std::vector<int64_t> widths;
  for (const Tensor& tensor : vectors) widths.push_back(tensor.size(-1));
  return widths;
}

/// The vectors of a word for this model's encoders.
WordVectors fitting(std::vector<Tensor> found, const std::filesystem::path& file, const std::string& name,
                    const models::Model& model) {
  EMULSION_CHECK(!found.empty() && std::ranges::all_of(found, [](const Tensor& t) { return t.dim() == 2; }), format,
                 "{}: expected vectors of textual inversion (clip_l, clip_g, emb_params, string_to_param), it holds none",
                 file.string());
  std::vector<int64_t> expected;
  for (const auto* part : encoders_of(model)) expected.push_back(part->net.config().hidden_size);
  if (expected.size() == 1) std::erase_if(found, [&](const Tensor& t) { return found.size() > 1 && t.size(1) != expected[0]; });
  EMULSION_CHECK(widths_of(found) == expected, shape,
                 "{}: expected vectors of [{}] numbers for the text encoders of this model, got [{}]; it was made for another "
                 "kind of model",
                 file.string(), fmt::join(expected, ", "), fmt::join(widths_of(found), ", "));
  return {name, std::move(found)};
}

std::string lower_case(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

/// The names behind "embedding:" in a text.
std::vector<std::string> called_in(const std::string& text) {
  std::vector<std::string> names;
  for (size_t at = text.find(kCall); at != text.npos; at = text.find(kCall, at + 1)) {
    size_t end = at + kCall.size();
    while (end < text.size() && (models::is_word(text[end]) || text[end] == '-' || text[end] == '.')) ++end;
    while (end > at + kCall.size() && text[end - 1] == '.') --end;  // the end of a sentence
    names.push_back(text.substr(at + kCall.size(), end - at - kCall.size()));
  }
  return names;
}

}  // namespace

WordVectors load_embedding(const std::filesystem::path& file, const std::string& name, const models::Model& model) {
  return fitting(vectors_in(tensors_of(io::open_tensor_file(file))), file, name, model);
}

std::vector<WordVectors> bundled_embeddings(const std::filesystem::path& adapter, const models::Model& model) {
  const io::TensorFile file = io::open_tensor_file(adapter);
  std::map<std::string, std::map<std::string, Tensor>> words;
  for (const io::TensorFile::Entry& entry : file.entries()) {
    if (!entry.name.starts_with(weights::kBundle)) continue;
    const std::string rest = entry.name.substr(std::string_view(weights::kBundle).size());
    const size_t dot = rest.find('.');
    EMULSION_CHECK(dot != rest.npos, format, "{}: expected bundle_emb.WORD.NAME, got '{}'", adapter.string(), entry.name);
    words[rest.substr(0, dot)][rest.substr(dot + 1)] = file.tensor(entry.name);
  }
  std::vector<WordVectors> all;
  for (const auto& [word, tensors] : words) all.push_back(fitting(vectors_in(tensors), adapter, word, model));
  return all;
}

std::vector<WordVectors> embeddings_of(const std::vector<std::string>& texts, const NamedFiles& files,
                                       const models::Model& model) {
  std::vector<std::string> wanted;
  for (const std::string& text : texts) {
    for (const std::string& name : called_in(text)) {
      files.find(name, "embedding", "--embeddings");
      wanted.push_back(name);
    }
    for (const std::string& name : files.names()) {
      if (lower_case(text).find(lower_case(name)) != text.npos) wanted.push_back(name);
    }
  }
  std::ranges::sort(wanted);
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  std::vector<WordVectors> embeddings;
  for (const std::string& name : wanted) {
    embeddings.push_back(load_embedding(files.find(name, "embedding", "--embeddings"), name, model));
  }
  return embeddings;
}

std::optional<Tensor> ActiveEmbeddings::MoreRows::more_rows() const {
  std::vector<Tensor> rows;
  for (const auto& [name, vectors] : words_) rows.push_back(vectors);
  return at::cat(rows);
}

ActiveEmbeddings::ActiveEmbeddings(models::Model& model, const std::vector<WordVectors>& embeddings) {
  if (embeddings.empty()) return;
  const auto encoders = encoders_of(model);
  for (size_t i = 0; i < encoders.size(); ++i) {
    NamedTensors rows;
    std::vector<models::NamedTokens> names;
    int64_t next = encoders[i]->net.config().vocab_size;
    for (const WordVectors& word : embeddings) {
      const int64_t count = word.vectors[i].size(0);
      rows.emplace_back(word.name, word.vectors[i]);
      names.push_back({word.name, next, count});
      names.push_back({std::string(kCall) + word.name, next, count});
      next += count;
    }
    nn::Leaf* leaf = encoders[i]->store.find_leaf(kTable);
    EMULSION_CHECK(leaf != nullptr, internal, "[embeddings] the text encoder has no leaf '{}'", kTable);
    bound_.push_back({leaf, std::make_unique<MoreRows>(std::move(rows))});
    leaf->adapters.push_back(bound_.back().rows.get());
    names_.push_back(std::move(names));
  }
}

ActiveEmbeddings::~ActiveEmbeddings() {
  for (const Bound& bound : bound_) std::erase(bound.leaf->adapters, bound.rows.get());
}

}  // namespace emulsion::generate
