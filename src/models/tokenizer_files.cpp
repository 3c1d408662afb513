// ClipTokenizer from and to the files of a model folder.
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_depth.h"
#include "core/json_numbers.h"
#include "io/atomic_file.h"
#include "models/bpe.h"
#include "models/tokenizer.h"

namespace emulsion::models {
namespace {

using nlohmann::json;
using std::filesystem::path;

constexpr const char* kBos = "<|startoftext|>";
constexpr const char* kEos = "<|endoftext|>";
constexpr int64_t kMaxId = 10'000'000;

json read_json(const path& file) {
  const std::string text = io::read_file(file);
  check_json_depth(text, file.string());
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    throw Error(ErrorCode::format,
                fmt::format("[{}] expected JSON, got an error: {}", file.string(), error.what()));
  }
}

void set_token(BpeParts& parts, const std::string& token, int64_t id, const path& file) {
  EMULSION_CHECK(id >= 0 && id < kMaxId, format,
                 "[{}] token \"{}\": expected an id below {}, got {}", file.string(), token, kMaxId,
                 id);
  if (static_cast<size_t>(id) >= parts.tokens.size()) parts.tokens.resize(id + 1);
  parts.tokens[id] = token;
}

void read_vocabulary(BpeParts& parts, const json& vocabulary, const path& file) {
  EMULSION_CHECK(vocabulary.is_object() && !vocabulary.empty(), format,
                 "[{}] expected an object of token: id, got {}", file.string(),
                 vocabulary.type_name());
  for (const auto& [token, id] : vocabulary.items()) {
    set_token(parts, token, whole_number(id, file.string(), token), file);
  }
}

void add_token(BpeParts& parts, const std::string& token, int64_t id, const path& file) {
  set_token(parts, token, id, file);
  const std::pair<std::string, int64_t> entry{token, id};
  if (std::find(parts.added.begin(), parts.added.end(), entry) == parts.added.end()) {
    parts.added.push_back(entry);
  }
}

void read_tokenizer_json(BpeParts& parts, const path& file) {
  const json root = read_json(file);
  const json model = root.value("model", json::object());
  EMULSION_CHECK(model.contains("vocab") && model.contains("merges"), format,
                 "[{}] expected a BPE model with \"vocab\" and \"merges\"; is it another kind of "
                 "tokenizer?",
                 file.string());
  read_vocabulary(parts, model["vocab"], file);
  for (const auto& merge : model["merges"]) {
    if (merge.is_string()) {
      const auto pairs = parse_merges(merge.get<std::string>(), file.string());
      parts.merges.insert(parts.merges.end(), pairs.begin(), pairs.end());
    } else {
      parts.merges.emplace_back(merge.at(0).get<std::string>(), merge.at(1).get<std::string>());
    }
  }
  for (const auto& token : root.value("added_tokens", json::array())) {
    add_token(parts, token.at("content").get<std::string>(), whole_number(token.at("id"), file.string(), "id"), file);
  }
}

// "pad_token" and the like are either a string or an object with "content".
std::string token_text(const json& root, const char* key, const std::string& fallback) {
  const auto it = root.find(key);
  if (it == root.end() || it->is_null()) return fallback;
  return it->is_object() ? it->value("content", fallback) : it->get<std::string>();
}

int64_t id_of(const BpeParts& parts, const std::string& token, const char* role) {
  const auto it = std::find(parts.tokens.begin(), parts.tokens.end(), token);
  EMULSION_CHECK(it != parts.tokens.end(), format,
                 "[{}] expected the {} \"{}\" in the vocabulary, got none", parts.origin, role,
                 token);
  return it - parts.tokens.begin();
}

void read_special_tokens(BpeParts& parts, const path& folder) {
  json merged = json::object();
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
    if (std::filesystem::exists(folder / name)) merged.update(read_json(folder / name));
  }
  if (const auto it = merged.find("added_tokens_decoder"); it != merged.end()) {
    for (const auto& [id, token] : it->items()) {
      const path file = folder / "tokenizer_config.json";
      const json number = json::parse(id, nullptr, /*allow_exceptions=*/false);
      add_token(parts, token.at("content").get<std::string>(), whole_number(number, file.string(), "added_tokens_decoder"), file);
    }
  }
  if (const auto file = folder / "added_tokens.json"; std::filesystem::exists(file)) {
    const auto added = read_json(file);
    for (const auto& [token, id] : added.items()) {
      add_token(parts, token, whole_number(id, file.string(), token), file);
    }
  }
  const struct {
    const char* key;
    const char* fallback;
    int64_t& id;
  } roles[] = {{"bos_token", kBos, parts.bos},
               {"eos_token", kEos, parts.eos},
               {"pad_token", kEos, parts.pad},
               {"unk_token", kEos, parts.unknown}};
  for (const auto& role : roles) {
    const auto token = token_text(merged, role.key, role.fallback);
    role.id = id_of(parts, token, role.key);
    add_token(parts, token, role.id, folder);
  }
}

json special_tokens(const BpeParts& parts) {
  return {{"bos_token", parts.tokens[parts.bos]},
          {"eos_token", parts.tokens[parts.eos]},
          {"pad_token", parts.tokens[parts.pad]},
          {"unk_token", parts.tokens[parts.unknown]}};
}

json tokenizer_config(const BpeParts& parts) {
  json config = special_tokens(parts);
  config.update({{"tokenizer_class", "CLIPTokenizer"},
                 {"model_max_length", kClipLength},
                 {"add_prefix_space", false},
                 {"do_lower_case", true},
                 {"errors", "replace"},
                 {"clean_up_tokenization_spaces", false}});
  for (const auto& [token, id] : parts.added) {
    config["added_tokens_decoder"][std::to_string(id)] = {
        {"content", token}, {"lstrip", false}, {"normalized", false},
        {"rstrip", false},  {"special", true}, {"single_word", false}};
  }
  return config;
}

}  // namespace

ClipTokenizer ClipTokenizer::from_folder(const path& folder) {
  BpeParts parts;
  parts.origin = folder.string();
  try {
    if (std::filesystem::exists(folder / "vocab.json")) {
      read_vocabulary(parts, read_json(folder / "vocab.json"), folder / "vocab.json");
      const path merges = folder / "merges.txt";
      parts.merges = parse_merges(io::read_file(merges), merges.string());
    } else {
      EMULSION_CHECK(std::filesystem::exists(folder / "tokenizer.json"), not_found,
                     "[{}] expected vocab.json and merges.txt, or tokenizer.json, got neither; is "
                     "this the \"tokenizer\" folder of a model?",
                     folder.string());
      read_tokenizer_json(parts, folder / "tokenizer.json");
    }
    read_special_tokens(parts, folder);
  } catch (const json::exception& error) {
    throw Error(ErrorCode::format, fmt::format("[{}] unexpected content of a tokenizer file: {}",
                                               folder.string(), error.what()));
  }
  return ClipTokenizer(std::make_shared<BpeVocabulary>(std::move(parts)));
}

void ClipTokenizer::save(const path& folder) const {
  const auto& parts = vocabulary_->parts();
  std::string vocabulary;  // written by hand to keep the order of the ids
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    if (parts.tokens[id].empty()) continue;
    vocabulary +=
        fmt::format("{}{}: {}", vocabulary.empty() ? "{" : ", ", json(parts.tokens[id]).dump(), id);
  }
  vocabulary += "}\n";
  std::string merges = "#version: 0.2\n";
  for (const auto& [left, right] : parts.merges) merges += left + " " + right + "\n";
  std::filesystem::create_directories(folder);
  io::write_file_atomic(folder / "vocab.json", vocabulary);
  io::write_file_atomic(folder / "merges.txt", merges);
  io::write_file_atomic(folder / "tokenizer_config.json", tokenizer_config(parts).dump(2) + "\n");
  io::write_file_atomic(folder / "special_tokens_map.json", special_tokens(parts).dump(2) + "\n");
}

}  // namespace emulsion::models
