#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/json_depth.h"
#include "io/content.h"
#include "io/file_map.h"
#include "io/tensor_contents.h"
#include "io/tensor_file.h"

namespace emulsion::io {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

constexpr size_t kMaxIndex = 64 << 20;

// LONG1 and the ten bytes of the number that torch.save puts in front, behind PROTO n and, from
// protocol 4 on, a FRAME.
constexpr std::string_view kLegacyMagic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"sv;

bool is_zip(std::string_view bytes) { return bytes.starts_with("PK\x03\x04"sv); }
bool is_torch_legacy(std::string_view bytes) {
  const size_t at = bytes.size() > 2 && bytes[2] == '\x95' ? 11 : 2;
  return bytes.starts_with('\x80') && bytes.size() > at && bytes.substr(at).starts_with(kLegacyMagic);
}
bool is_safetensors(std::string_view bytes) {
  // The upper half of the header's length is zero in every file there is.
  return bytes.size() >= 9 && bytes.substr(4, 4) == "\0\0\0\0"sv && bytes[8] == '{';
}
bool is_json_object(std::string_view bytes) {
  const size_t begin = bytes.substr(0, 64).find_first_not_of(" \t\r\n");
  return begin != bytes.npos && bytes[begin] == '{';
}

const char* remedy_for(std::string_view looks) {
  if (looks.starts_with("a Git LFS pointer")) return "give the file itself";
  if (looks.starts_with("an HTML page")) {
    return "a download failed and left a web page: fetch the file again, logged in if its site "
           "asks for that";
  }
  if (looks.starts_with("a file of zero bytes")) {
    return "the download never finished or the disk was full: fetch it again";
  }
  return "give a .safetensors, .ckpt, .pt or .bin file";
}

TensorContents read_contents(const fs::path& path, std::string_view bytes) {
  EMULSION_CHECK(!bytes.empty(), format,
                 "{}: expected a file of tensors, got an empty one; the download may be incomplete: "
                 "fetch it again",
                 path.string());
  if (is_zip(bytes)) return read_torch_zip(path, bytes);
  if (is_torch_legacy(bytes)) return read_torch_legacy(path, bytes);
  if (is_safetensors(bytes)) return read_safetensors(path, bytes);
  const std::string looks = describe_content(bytes.substr(0, 64));
  throw Error(ErrorCode::format,
              fmt::format("{}: expected a file of tensors (safetensors, or what torch.save writes), "
                          "got {}; {}",
                          path.string(), looks, remedy_for(looks)));
}

// --- Sets of shards ------------------------------------------------------------------------------

/// Tensor name -> file name, from "weight_map".
std::map<std::string, std::string> weight_map(const fs::path& path, const nlohmann::json& index) {
  const auto map = index.find("weight_map");
  EMULSION_CHECK(map != index.end() && map->is_object() && !map->empty(), format,
                 "{}: expected the index of a set of shards with a 'weight_map', got other JSON; give "
                 "an .index.json, or a file of tensors",
                 path.string());
  std::map<std::string, std::string> shards;
  for (const auto& [name, file] : map->items()) {
    const std::string shard = file.is_string() ? file.get<std::string>() : "";
    EMULSION_CHECK(!shard.empty() && fs::path(shard).filename() == shard && shard != ".." &&
                       shard.find('\0') == shard.npos,
                   format,
                   "{}: tensor '{}': expected the name of a file beside the index, got {}; fetch the "
                   "index again",
                   path.string(), printable(name, 200), printable(file.dump(-1, ' ', true)));
    shards.emplace(name, shard);
  }
  return shards;
}

void check_present(const fs::path& path, const std::vector<std::string>& shards) {
  std::vector<std::string> missing;
  for (const std::string& shard : shards) {
    if (!fs::exists(path.parent_path() / shard)) missing.push_back(printable(shard, 200));
  }
  const size_t shown = std::min<size_t>(missing.size(), 5);
  EMULSION_CHECK(missing.empty(), not_found,
                 "{}: expected {} shards beside it, {} missing: {}{}; fetch what is missing",
                 path.string(), shards.size(), missing.size(),
                 fmt::join(missing.begin(), missing.begin() + shown, ", "),
                 missing.size() > shown ? ", ..." : "");
}

void add_shard(TensorContents& all, TensorContents shard, uint32_t number) {
  all.format = std::move(shard.format);
  for (TensorFile::Entry& entry : shard.entries) {
    entry.shard = number;
    all.entries.push_back(std::move(entry));
  }
  all.metadata.merge(shard.metadata);
}

/// Every tensor lies in the shard that the index says, and in no other.
void check_index(const fs::path& path, const std::map<std::string, std::string>& where,
                 const std::vector<std::string>& shards, const TensorContents& all) {
  std::set<std::string_view> found;
  for (const TensorFile::Entry& entry : all.entries) {
    const auto place = where.find(entry.name);
    EMULSION_CHECK(place != where.end() && place->second == shards[entry.shard], format,
                   "{}: tensor '{}': expected it in {}, got it in {}; the files are not of one set: "
                   "fetch them again",
                   path.string(), printable(entry.name, 200),
                   place == where.end() ? "no shard" : printable(place->second, 200),
                   printable(shards[entry.shard], 200));
    found.insert(entry.name);
  }
  for (const auto& [name, shard] : where) {
    EMULSION_CHECK(found.contains(name), format,
                   "{}: tensor '{}': expected it in {}, which lacks it; the files are not of one set: "
                   "fetch them again",
                   path.string(), printable(name, 200), printable(shard, 200));
  }
}

TensorFile open_shards(const fs::path& path, std::string_view text) {
  EMULSION_CHECK(text.size() <= kMaxIndex, format,
                 "{}: expected a file of tensors, or the index of a set of shards of at most {} bytes, "
                 "got {} bytes that begin as JSON; give a file of tensors",
                 path.string(), kMaxIndex, text.size());
  check_json_depth(text, path.string());
  const auto index = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  EMULSION_CHECK(index.is_object(), format,
                 "{}: expected a file of tensors or the index of a set of shards, got damaged JSON; "
                 "fetch it again",
                 path.string());
  const auto where = weight_map(path, index);
  std::set<std::string> names;
  for (const auto& [name, shard] : where) names.insert(shard);
  const std::vector<std::string> shards(names.begin(), names.end());
  check_present(path, shards);
  std::vector<std::shared_ptr<FileMap>> maps;
  TensorContents all;
  for (const std::string& shard : shards) {
    maps.push_back(std::make_shared<FileMap>(path.parent_path() / shard));
    add_shard(all, read_contents(maps.back()->path(), maps.back()->bytes()),
              static_cast<uint32_t>(maps.size() - 1));
  }
  check_index(path, where, shards, all);
  return TensorFile(path, std::move(maps), std::move(all));
}

}  // namespace

TensorFile open_tensor_file(const fs::path& path) {
  auto map = std::make_shared<FileMap>(path);
  const std::string_view bytes = map->bytes();
  if (!is_safetensors(bytes) && is_json_object(bytes)) return open_shards(path, bytes);
  TensorContents contents = read_contents(path, bytes);
  return TensorFile(path, {std::move(map)}, std::move(contents));
}

}  // namespace emulsion::io
