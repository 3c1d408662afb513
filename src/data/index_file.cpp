// File: a Head, the contents' sections in its order, and the checksum of everything before. Numbers as they lie in memory: the
// file never leaves its machine.
#include "data/index_file.h"

#include <atomic>
#include <optional>
#include <thread>

#include "config/config.h"
#include "core/error.h"
#include "core/log.h"
#include "data/file_state.h"
#include "data/packed_texts.h"
#include "data/picture_checks.h"
#include "io/atomic_file.h"
#include "io/hash.h"

namespace emulsion::data {
namespace {

using std::filesystem::path;

constexpr uint64_t kMark = 0x3158444E494C554DULL;  // "MULINDX1"
constexpr size_t kPiece = 4 << 20;                 // bytes of the file in memory at a time while it is checked
constexpr size_t kSamplesTogether = 16384;         // that a thread looks at before it gives their memory back

constexpr const char* kUnfinished = "unfinished";  // in the place of the settings: never opened, but known

struct Head {
  uint64_t mark = kMark;
  uint64_t about = 0;    // bytes: settings and everything of an index but its samples
  uint64_t records = 0;  // bytes
  uint64_t ends = 0;     // bytes
};

/// Everything that decides what a search finds, besides the files.
std::string settings_of(const DataConfig& config) {
  DataConfig sources;
  sources.sources = config.sources;
  return io::sha256_hex(std::filesystem::current_path().string() + "\n" + config::to_toml(sources));
}

void pack_counts(std::string& to, const std::map<std::string, int64_t>& counts) {
  pack(to, counts.size());
  for (const auto& [name, count] : counts) {
    pack_text(to, name);
    pack(to, count);
  }
}

std::map<std::string, int64_t> unpacked_counts(Unpacker& from) {
  std::map<std::string, int64_t> counts;
  for (auto left = from.take<size_t>(); left > 0; --left) {
    std::string name = from.text();
    counts.emplace(std::move(name), from.take<int64_t>());
  }
  return counts;
}

std::string packed_about(const Index& index, const std::string& settings) {
  std::string to;
  pack_text(to, settings);
  pack_counts(to, index.formats);
  pack_counts(to, index.caption_origins);
  pack(to, index.problems.size());
  for (const Problem& problem : index.problems) {
    for (const std::string& text : {problem.path.string(), problem.place, problem.reason, problem.action}) pack_text(to, text);
  }
  pack(to, index.watched.size());
  for (const Watched& watched : index.watched) {
    pack_text(to, watched.path.native());
    pack(to, watched.state);
  }
  return to;
}

/// Takes everything but the samples; returns the settings.
std::string unpack_about(std::string_view bytes, Index& index) {
  Unpacker from(bytes);
  std::string settings = from.text();
  index.formats = unpacked_counts(from);
  index.caption_origins = unpacked_counts(from);
  for (auto left = from.take<size_t>(); left > 0; --left) {
    Problem& problem = index.problems.emplace_back();
    problem.path = from.text();
    for (std::string* text : {&problem.place, &problem.reason, &problem.action}) *text = from.text();
  }
  for (auto left = from.take<size_t>(); left > 0; --left) {
    Watched& watched = index.watched.emplace_back();
    watched.path = from.text();
    watched.state = from.take<uint64_t>();
  }
  return settings;
}

/// Of pieces of a file, one behind the other.
class Checksum {
 public:
  void add(std::string_view bytes) { sum_ = sum_ * 0x100000001B3ULL ^ io::checksum(bytes); }
  uint64_t value() const { return sum_; }

 private:
  uint64_t sum_ = 0;
};

uint64_t checksum_of(const io::FileMap& file, size_t size) {
  Checksum sum;
  for (size_t at = 0; at < size; at += kPiece) {
    const size_t end = std::min(size, at + kPiece);
    sum.add(file.bytes().substr(at, end - at));
    file.release(at, end);
  }
  return sum.value();
}

struct Kept {
  Index index;
  std::string settings;
};

/// What lies in `file`; nothing if there is no whole index.
std::optional<Kept> kept_in(const path& file) {
  std::error_code none;
  if (!std::filesystem::exists(file, none)) return std::nullopt;
  const auto map = std::make_shared<const io::FileMap>(file);
  try {
    Unpacker from(map->bytes());
    const auto head = from.take<Head>();
    EMULSION_CHECK(head.mark == kMark, format, "[index] expected an index, got another kind of file");
    const std::string_view about = from.bytes(head.about), records = from.bytes(head.records), ends = from.bytes(head.ends);
    const size_t size = sizeof(Head) + about.size() + records.size() + ends.size();
    EMULSION_CHECK(from.take<uint64_t>() == checksum_of(*map, size), format, "[index] the file is damaged");
    Kept kept;
    kept.settings = unpack_about(about, kept.index);
    kept.index.samples = SampleList(map, records, ends);
    return kept;
  } catch (const Error& error) {
    log::debug("{}: {}; the pictures are looked at anew", file.string(), error.what());
    return std::nullopt;
  }
}

bool unchanged(const Index& index, int threads) {
  const auto as_was = [](const Watched& watched) { return watched.state != 0 && watched.state == file_state(watched.path); };
  if (!std::ranges::all_of(index.watched, as_was)) return false;
  const SampleList& samples = index.samples;
  std::atomic<size_t> next = 0;
  std::atomic<bool> same = true;
  const auto look = [&] {
    for (size_t first; same && (first = next.fetch_add(kSamplesTogether)) < samples.size();) {
      const size_t behind = std::min(samples.size(), first + kSamplesTogether);
      try {
        for (size_t i = first; i < behind && same; ++i) {
          const Sample sample = samples[i];
          if (sample.state == 0 || sample.state != present_state(sample)) same = false;
        }
      } catch (const Error&) {  // of a file that is not what it was when it was opened
        same = false;
      }
      samples.release(first, behind);
    }
  };
  {
    std::vector<std::jthread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(look);
    look();
  }
  return same;
}

/// Samples in memory only.
void write_index(const Index& index, const std::string& settings, const path& file) {
  const std::string about = packed_about(index, settings);
  const std::string_view records = index.samples.records(), ends = index.samples.ends();
  std::string head;
  pack(head, Head{kMark, about.size(), records.size(), ends.size()});
  io::AtomicFile out(file);
  Checksum sum;
  std::string piece;  // pieces are cut as checksum_of cuts them
  for (std::string_view section : {std::string_view(head), std::string_view(about), records, ends}) {
    while (!section.empty()) {
      const size_t count = std::min(section.size(), kPiece - piece.size());
      piece.append(section.substr(0, count));
      section.remove_prefix(count);
      if (piece.size() < kPiece) continue;
      sum.add(piece);
      out.write(piece);
      piece.clear();
    }
  }
  if (!piece.empty()) sum.add(piece);
  out.write(piece);
  std::string tail;
  pack(tail, sum.value());
  out.write(tail);
  out.commit();
}

}  // namespace

Index open_index(const DataConfig& config, const path& file, Reporter& reporter, int threads) {
  std::optional<Kept> kept = kept_in(file);
  if (kept && kept->settings == settings_of(config) && unchanged(kept->index, threads)) return std::move(kept->index);
  Index index = scan(config);
  try {
    check_pictures(index, reporter, kept ? kept->index.samples : SampleList(), threads);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cancelled) write_index(index, kUnfinished, file);
    throw;
  }
  return index;
}

void save_index(Index& index, const DataConfig& config, const path& file) {
  if (index.samples.is_in_file()) return;
  write_index(index, settings_of(config), file);
  if (auto kept = kept_in(file)) index.samples = std::move(kept->index.samples);
}

}  // namespace emulsion::data
