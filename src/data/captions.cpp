#include "data/captions.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/atomic_file.h"

namespace emulsion::data {
namespace {

using nlohmann::json;
using std::filesystem::path;

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr std::string_view kPlaceholder = "[trigger]";

/// Short lists in the manner of Gal et al. 2022 (arXiv:2208.01618, supplement).
const std::map<std::string, std::vector<std::string>>& ready_templates() {
  static const std::map<std::string, std::vector<std::string>> all = {
      {"object",
       {"a photo of a [trigger]", "a photo of the [trigger]", "a rendering of a [trigger]", "a close-up photo of the [trigger]",
        "a bright photo of a [trigger]", "a dark photo of the [trigger]", "a photo of one [trigger]", "a good photo of a [trigger]",
        "a cropped photo of the [trigger]", "a photo of a nice [trigger]", "a photo of a small [trigger]",
        "a photo of the large [trigger]"}},
      {"style",
       {"a painting in the style of [trigger]", "a rendering in the style of [trigger]", "a picture in the style of [trigger]",
        "the painting in the style of [trigger]", "a close-up painting in the style of [trigger]",
        "a nice painting in the style of [trigger]", "a dark painting in the style of [trigger]",
        "a bright painting in the style of [trigger]", "a cropped painting in the style of [trigger]",
        "a small painting in the style of [trigger]"}}};
  return all;
}

void replace_all(std::string& text, std::string_view what, const std::string& by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size()) text.replace(at, what.size(), by);
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// How many continuation bytes follow `lead`, and the smallest code point that needs so many.
struct Lead {
  int more;
  uint32_t bits, smallest;
};
std::optional<Lead> lead_of(uint8_t byte) {
  if (byte < 0x80) return Lead{0, byte, 0};
  if (byte >= 0xc2 && byte < 0xe0) return Lead{1, byte & 0x1fu, 0x80};
  if (byte >= 0xe0 && byte < 0xf0) return Lead{2, byte & 0x0fu, 0x800};
  if (byte >= 0xf0 && byte < 0xf5) return Lead{3, byte & 0x07u, 0x10000};
  return std::nullopt;
}

std::string key_of(const path& file) { return file.lexically_normal().string(); }

Problem not_utf8(const path& file, const std::string& place, std::string_view text, size_t offset) {
  return {file, place,
          fmt::format("expected a caption in UTF-8, got byte 0x{:02x} at offset {}",
                      static_cast<uint8_t>(text[offset]), offset),
          "picture left out; save the file as UTF-8"};
}

// One row of metadata, checked.
void add_row(const path& file, int64_t line, const std::string& name,
             std::vector<std::string> texts, Metadata& metadata, std::vector<Problem>& problems) {
  const path picture = file.parent_path() / name;
  if (!std::filesystem::exists(picture)) {
    problems.push_back({picture, fmt::format("{}:{}", file.string(), line),
                        fmt::format("expected the picture \"{}\", got no such file", name),
                        "entry ignored; correct file_name, which is relative to this file"});
    return;
  }
  for (auto& text : texts) text = trimmed(text);
  metadata[key_of(picture)] = std::move(texts);
}

void add_json_row(const path& file, int64_t line, std::string_view text, Metadata& metadata,
                  std::vector<Problem>& problems) {
  const auto refuse = [&](const std::string& reason) {
    problems.push_back(
        {file, fmt::format("{}:{}", file.string(), line), reason,
         "line ignored; expected {\"file_name\": \"a.png\", \"text\": \"caption\"}"});
  };
  const json row = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (row.is_discarded() || !row.is_object()) return refuse("expected a JSON object, got none");
  const auto name = row.find("file_name"), caption = row.find("text");
  if (name == row.end() || !name->is_string()) return refuse("expected a string \"file_name\"");
  if (caption == row.end()) return refuse("expected \"text\", got no such key");
  std::vector<std::string> texts;
  for (const auto& entry : caption->is_array() ? *caption : json::array({*caption})) {
    if (!entry.is_string()) {
      return refuse(fmt::format("expected \"text\" to be a string or a list of strings, got {}",
                                entry.type_name()));
    }
    texts.push_back(entry.get<std::string>());
  }
  if (texts.empty()) return refuse("expected at least one caption in \"text\", got an empty list");
  add_row(file, line, name->get<std::string>(), std::move(texts), metadata, problems);
}

// The fields of the CSV record that begins at `at` (RFC 4180); moves `at` behind it.
std::vector<std::string> csv_record(std::string_view text, size_t& at) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c != '"') {
        fields.back() += c;
      } else if (at + 1 < text.size() && text[at + 1] == '"') {
        fields.back() += text[++at];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      fields.emplace_back();
    } else if (c == '\n') {
      ++at;
      break;
    } else if (c != '\r') {
      fields.back() += c;
    }
  }
  return fields;
}

void read_csv(const path& file, std::string_view text, Metadata& metadata,
              std::vector<Problem>& problems) {
  size_t at = 0;
  const auto header = csv_record(text, at);
  const auto column = [&](const char* name) {
    return static_cast<size_t>(std::find(header.begin(), header.end(), name) - header.begin());
  };
  const size_t name = column("file_name"), caption = column("text");
  if (name == header.size() || caption == header.size()) {
    problems.push_back({file, file.string() + ":1",
                        "expected columns \"file_name\" and \"text\" in the first line",
                        "file ignored"});
    return;
  }
  while (at < text.size()) {
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<int64_t>(at), '\n');
    const auto fields = csv_record(text, at);
    if (fields.size() == 1 && fields[0].empty()) continue;
    if (fields.size() != header.size()) {
      problems.push_back({file, fmt::format("{}:{}", file.string(), line),
                          fmt::format("expected {} fields, got {}", header.size(), fields.size()),
                          "line ignored; put captions with commas in quotes"});
      continue;
    }
    add_row(file, line, fields[name], {fields[caption]}, metadata, problems);
  }
}

void read_jsonl(const path& file, std::string_view text, Metadata& metadata,
                std::vector<Problem>& problems) {
  for (int64_t line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string row = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (row.empty()) continue;
    if (const auto bad = invalid_utf8_offset(row)) {
      problems.push_back(not_utf8(file, fmt::format("{}:{}", file.string(), line), row, *bad));
    } else {
      add_json_row(file, line, row, metadata, problems);
    }
  }
}

}  // namespace

std::optional<size_t> invalid_utf8_offset(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = lead_of(static_cast<uint8_t>(text[i]));
    if (!lead || i + static_cast<size_t>(lead->more) >= text.size()) return i;
    uint32_t code = lead->bits;
    for (int k = 1; k <= lead->more; ++k) {
      const auto byte = static_cast<uint8_t>(text[i + static_cast<size_t>(k)]);
      if ((byte & 0xc0) != 0x80) return i;
      code = code << 6 | (byte & 0x3fu);
    }
    if (code < lead->smallest || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return i;
    i += 1 + static_cast<size_t>(lead->more);
  }
  return std::nullopt;
}

std::string trimmed(std::string_view text) {
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return std::string(text);
}

std::string caption_from_name(std::string_view stem) {
  std::string words;
  for (const char c : stem) words += c == '_' || c == '-' ? ' ' : c;
  // Numbers at the end only count pictures: "cat_02", "cat (3)", "cat7".
  words.resize(words.find_last_not_of(" ()0123456789") + 1);
  return trimmed(words);
}

namespace {

std::string with_trigger(std::string text, const std::string& trigger) {
  if (trigger.empty()) return text;
  const bool asked = text.find(kPlaceholder) != std::string::npos;
  replace_all(text, kPlaceholder, trigger);
  if (asked || text.find(trigger) != std::string::npos) return text;
  return text.empty() ? trigger : trigger + ", " + text;
}

}  // namespace

std::vector<std::string> decorated(const std::string& caption, const SourceConfig& source) {
  const std::string prefixed = source.caption_prefix + caption;
  std::vector<std::string> sentences;
  for (const std::string& given : source.templates) {
    const auto ready = ready_templates().find(given);
    if (ready == ready_templates().end()) {
      sentences.push_back(given);
    } else {
      sentences.insert(sentences.end(), ready->second.begin(), ready->second.end());
    }
  }
  if (sentences.empty()) return {with_trigger(prefixed, source.trigger)};
  for (std::string& sentence : sentences) {
    replace_all(sentence, "[name]", std::string(kPlaceholder));
    replace_all(sentence, "[filewords]", prefixed);
    sentence = with_trigger(sentence, source.trigger);
  }
  return sentences;
}

std::optional<CaptionResult> sidecar_caption(const path& picture) {
  for (const char* ending : {".txt", ".caption"}) {
    const path file = path(picture).replace_extension(ending);
    if (!std::filesystem::is_regular_file(file)) continue;
    const std::string text = io::read_file(file);
    if (const auto bad = invalid_utf8_offset(text)) {
      return CaptionResult{{}, not_utf8(picture, file.string(), text, *bad), file};
    }
    return CaptionResult{{trimmed(text)}, {}, file};
  }
  return std::nullopt;
}

void read_metadata(const path& file, Metadata& metadata, std::vector<Problem>& problems) {
  const std::string text = io::read_file(file);
  if (file.extension() != ".csv") return read_jsonl(file, text, metadata, problems);
  if (const auto bad = invalid_utf8_offset(text)) {
    problems.push_back(not_utf8(file, file.string(), text, *bad));
    return;
  }
  read_csv(file, text, metadata, problems);
}

}  // namespace emulsion::data
