// What torch.save writes, in its two formats (torch/serialization.py). A file is read only if it is
// understood to the last byte.
#include <cstring>
#include <set>

#include "core/error.h"
#include "io/content.h"
#include "io/pickle.h"
#include "io/tensor_contents.h"
#include "io/torch_storage.h"
#include "io/torch_tensors.h"
#include "io/zip.h"

namespace emulsion::io {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;
using Storages = std::map<std::string, TorchStorage>;

// --- ZIP -----------------------------------------------------------------------------------------

// Beside data.pkl and data/<key>. None matters but the byte order.
constexpr std::string_view kKnownRecords[] = {"version", "byteorder", ".format_version",
                                              ".storage_alignment", ".data/serialization_id"};

constexpr uint64_t kMaxPickleBytes = 64 << 20;

// The records of an archive without the folder that all of them lie in.
struct TorchArchive {
  const ZipRecord* pickle = nullptr;
  std::map<std::string_view, const ZipRecord*> storages;  // by key
  std::map<std::string_view, const ZipRecord*> facts;
};

[[noreturn]] void refuse_record(const fs::path& path, const ZipRecord& record,
                                const std::string& message) {
  throw Error(ErrorCode::format, fmt::format("{}: byte {}: record '{}': {}", path.string(),
                                             record.begin, printable(record.name, 200), message));
}

TorchArchive sort_records(const fs::path& path, const std::vector<ZipRecord>& records) {
  EMULSION_CHECK(!records.empty(), format,
                 "{}: expected the records of torch.save, got an empty ZIP archive; "
                 "give a checkpoint",
                 path.string());
  const std::string_view folder = records[0].name.substr(0, records[0].name.find('/') + 1);
  TorchArchive archive;
  for (const ZipRecord& record : records) {
    const std::string_view name = record.name.substr(std::min(folder.size(), record.name.size()));
    const bool within = !folder.empty() && record.name.starts_with(folder);
    if (within && (name == "constants.pkl" || name.starts_with("code/"))) {
      refuse_record(path, record,
                    "this is a TorchScript program, not a file of tensors; save the "
                    "state dict of the model with torch.save");
    } else if (within && name == "data.pkl") {
      archive.pickle = &record;
    } else if (within && name.starts_with("data/")) {
      archive.storages[name.substr(5)] = &record;
    } else if (within && std::ranges::count(kKnownRecords, name) > 0) {
      archive.facts[name] = &record;
    } else {
      refuse_record(path, record,
                    "expected only what torch.save writes (data.pkl, data/0, version, ... "
                    "in one folder); the file is no checkpoint, or hostile");
    }
  }
  EMULSION_CHECK(
      archive.pickle != nullptr, format,
      "{}: expected a record '{}data.pkl', got none; the file is no checkpoint of torch.save",
      path.string(), printable(folder, 200));
  return archive;
}

bool is_byte_swapped(const fs::path& path, std::string_view bytes, const TorchArchive& archive) {
  const auto found = archive.facts.find("byteorder");
  if (found == archive.facts.end()) return false;
  const ZipRecord& record = *found->second;
  const std::string_view order = bytes.substr(record.begin, record.end - record.begin);
  if (order != "little" && order != "big") {
    refuse_record(path, record,
                  fmt::format("expected 'little' or 'big', got '{}'; the file is damaged: "
                              "fetch it again",
                              printable(order)));
  }
  return order == "big";
}

void place_in_archive(const fs::path& path, const TorchArchive& archive, Storages& storages) {
  for (auto& [key, storage] : storages) {
    const auto found = archive.storages.find(key);
    if (found == archive.storages.end() && storage.bytes == 0) continue;
    EMULSION_CHECK(
        found != archive.storages.end(), format,
        "{}: storage '{}': expected a record 'data/{}', got none; the file is damaged: fetch "
        "it again",
        path.string(), printable(key), printable(key));
    const ZipRecord& record = *found->second;
    if (record.end - record.begin != storage.bytes) {
      refuse_record(path, record,
                    fmt::format("expected {} bytes as its tensors say, got {}; the file is "
                                "damaged: fetch it again",
                                storage.bytes, record.end - record.begin));
    }
    storage.begin = record.begin;
  }
  for (const auto& [key, record] : archive.storages) {
    if (!storages.contains(std::string(key))) {
      refuse_record(path, *record,
                    "expected a storage that data.pkl mentions, got one more; the file is "
                    "damaged or hostile");
    }
  }
}

// --- The older format ----------------------------------------------------------------------------

// Five pickles in a row (magic number, protocol, facts of the machine, the object, the keys of its
// storages), then per key the number of its elements and the elements.
class LegacyReader {
 public:
  LegacyReader(const fs::path& path, std::string_view bytes)
      : source_{path, bytes, 0, bytes.size()} {}
  TensorContents read();

 private:
  Pickle next() {
    Pickle pickle = read_pickle(source_);
    source_.begin = pickle.end;
    return pickle;
  }
  void read_preface();
  std::vector<std::string> read_keys(const Storages& storages);
  void place_storage(const std::string& key, TorchStorage& storage);

  PickleSource source_;
};

void LegacyReader::read_preface() {
  const Pickle magic = next();
  const Pickle version = next();
  constexpr int64_t kVersion = 1001;
  if (version[version.root].integer != kVersion) {
    refuse_pickle(
        source_.path, version[version.root].at,
        fmt::format("expected version {} of torch.save's format, got {}; save the file again with "
                    "a current PyTorch",
                    kVersion, version[version.root].integer));
  }
  // The byte order of the machine is among the facts, but the numbers are little-endian on any.
  const Pickle facts = next();
}

std::vector<std::string> LegacyReader::read_keys(const Storages& storages) {
  const Pickle pickle = next();
  const PickleNode& list = pickle[pickle.root];
  std::vector<std::string> keys;
  std::set<std::string> listed;
  for (const PickleRef ref : list.items) {
    const std::string key = key_text(pickle[ref]).value_or("");
    if (!storages.contains(key) || !listed.insert(key).second) {
      refuse_pickle(
          source_.path, pickle[ref].at,
          fmt::format("expected the key of a storage that a tensor mentions, once, got '{}'; the "
                      "file is damaged or hostile",
                      printable(key)));
    }
    keys.push_back(key);
  }
  if (list.kind != PickleKind::list || keys.size() != storages.size()) {
    refuse_pickle(
        source_.path, list.at,
        fmt::format("expected a list of the keys of {} storages, got {} of {}; the file is damaged "
                    "or hostile",
                    storages.size(), to_string(list.kind), keys.size()));
  }
  return keys;
}

void LegacyReader::place_storage(const std::string& key, TorchStorage& storage) {
  const uint64_t left = source_.end - source_.begin;
  const uint64_t width = at::elementSize(storage.dtype);
  uint64_t count = 0;
  const bool whole = left >= sizeof(count) && storage.bytes <= left - sizeof(count);
  if (whole) std::memcpy(&count, source_.file.data() + source_.begin, sizeof(count));
  EMULSION_CHECK(
      whole, format,
      "{}: byte {}: storage '{}': expected {} bytes, got {}: the file is cut off; fetch it again",
      source_.path.string(), source_.begin, printable(key), storage.bytes + sizeof(count), left);
  EMULSION_CHECK(
      count == storage.bytes / width, format,
      "{}: byte {}: storage '{}': expected {} elements as its tensors say, got {}; the file is "
      "damaged: fetch it again",
      source_.path.string(), source_.begin, printable(key), storage.bytes / width, count);
  storage.begin = source_.begin + sizeof(count);
  source_.begin = storage.begin + storage.bytes;
}

TensorContents LegacyReader::read() {
  read_preface();
  const Pickle pickle = next();
  Storages storages = find_storages(source_.path, pickle);
  for (const std::string& key : read_keys(storages)) place_storage(key, storages.at(key));
  EMULSION_CHECK(
      source_.begin == source_.end, format,
      "{}: byte {}: expected the end of the file after its last storage, got {} more bytes; "
      "the file is damaged or hostile",
      source_.path.string(), source_.begin, source_.end - source_.begin);
  TensorContents contents = find_tensors({source_.path, source_.end, false}, pickle, storages);
  contents.format = "torch legacy";
  return contents;
}

}  // namespace

TensorContents read_torch_zip(const fs::path& path, std::string_view bytes) {
  const std::vector<ZipRecord> records = read_zip(path, bytes);
  const TorchArchive archive = sort_records(path, records);
  const ZipRecord& record = *archive.pickle;
  if (record.end - record.begin > kMaxPickleBytes) {
    refuse_record(path, record,
                  fmt::format("expected at most {} bytes, got {}; no checkpoint has such a "
                              "pickle: the file is hostile",
                              kMaxPickleBytes, record.end - record.begin));
  }
  const Pickle pickle = read_pickle({path, bytes, record.begin, record.end});
  if (pickle.end != record.end) {
    refuse_record(path, record,
                  fmt::format("expected its end at byte {} after the opcode STOP, got {} more "
                              "bytes; the file is damaged or hostile",
                              pickle.end, record.end - pickle.end));
  }
  Storages storages = find_storages(path, pickle);
  place_in_archive(path, archive, storages);
  TensorContents contents =
      find_tensors({path, bytes.size(), is_byte_swapped(path, bytes, archive)}, pickle, storages);
  contents.format = "torch zip";
  return contents;
}

TensorContents read_torch_legacy(const fs::path& path, std::string_view bytes) {
  return LegacyReader(path, bytes).read();
}

}  // namespace emulsion::io
