#include "data/index.h"

#include <fmt/ranges.h>

#include "core/error.h"
#include "data/captions.h"
#include "data/file_state.h"
#include "data/masks.h"
#include "io/hash.h"
#include "io/image.h"

namespace emulsion::data {
namespace {

using std::filesystem::path;

constexpr const char* kMetadataNames[] = {"metadata.jsonl", "metadata.csv"};

// What lies in a source folder and its sub-folders.
struct Listing {
  std::vector<path> pictures;
  std::vector<path> metadata;
  std::map<std::string, int64_t> others;  // by ending, for messages
  std::vector<std::string> folders;       // directly below the root, for messages
  std::vector<Watched> watched;           // root and sub-folders
};

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

void list_file(const path& file, Listing& out) {
  const std::string name = file.filename().string();
  if (std::find(std::begin(kMetadataNames), std::end(kMetadataNames), name) !=
      std::end(kMetadataNames)) {
    out.metadata.push_back(file);
  } else if (io::is_image_path(file)) {
    out.pictures.push_back(file);
  } else {
    const std::string ending = lower(file.extension().string());
    ++out.others[ending.empty() ? "(no ending)" : ending];
  }
}

Listing list_files(const path& root) {
  Listing out;
  out.watched.push_back({root, file_state(root)});
  std::error_code error;
  auto it = std::filesystem::recursive_directory_iterator(
      root, std::filesystem::directory_options::skip_permission_denied, error);
  EMULSION_CHECK(!error, io, "[{}] expected a readable folder, got: {}; check its permissions",
                 root.string(), error.message());
  for (const auto end = std::filesystem::end(it); it != end; it.increment(error)) {
    EMULSION_CHECK(!error, io, "[{}] cannot list the folder: {}", root.string(), error.message());
    const bool hidden = it->path().filename().string().starts_with('.');
    if (it->is_directory(error)) {
      if (hidden) {
        it.disable_recursion_pending();
        continue;
      }
      out.watched.push_back({it->path(), file_state(it->path())});
      if (it.depth() == 0) out.folders.push_back(it->path().filename().string());
    } else if (!hidden) {
      list_file(it->path(), out);
    }
  }
  std::sort(out.pictures.begin(), out.pictures.end());
  std::sort(out.metadata.begin(), out.metadata.end());
  std::sort(out.folders.begin(), out.folders.end());
  return out;
}

[[noreturn]] void refuse_empty(const path& root, const Listing& listing) {
  std::vector<std::string> found;
  for (const auto& [ending, count] : listing.others) {
    found.push_back(fmt::format("{} {}", count, ending));
  }
  for (const auto& file : listing.metadata) found.push_back(file.filename().string());
  if (!listing.folders.empty()) {
    const size_t shown = std::min<size_t>(listing.folders.size(), 5);
    found.push_back(
        fmt::format("sub-folder{} {}{}", listing.folders.size() == 1 ? "" : "s",
                    fmt::join(listing.folders.begin(),
                              listing.folders.begin() + static_cast<int64_t>(shown), ", "),
                    shown < listing.folders.size() ? ", ..." : ""));
  }
  throw Error(
      ErrorCode::not_found,
      fmt::format("[{}] expected pictures (.png, .jpg, .webp, ...) in the folder or its "
                  "sub-folders, got {}; put the pictures there, unpack archives, or "
                  "correct data.sources[].path",
                  root.string(),
                  found.empty() ? "an empty folder" : fmt::format("{}", fmt::join(found, ", "))));
}

// A folder "10_red cat" anywhere between the source and the picture: (10, "red cat").
struct Repeated {
  int64_t repeats = 1;
  std::string name;
};
Repeated repeats_of(const path& relative, const path& root) {
  std::vector<std::string> folders = {
      std::filesystem::absolute(root).lexically_normal().filename().string()};
  for (const auto& part : relative.parent_path()) folders.push_back(part.string());
  for (auto it = folders.rbegin(); it != folders.rend(); ++it) {
    const size_t digits = it->find_first_not_of("0123456789");
    if (digits == 0 || digits == std::string::npos || digits > 6 || (*it)[digits] != '_') continue;
    return {std::max<int64_t>(1, std::stoll(it->substr(0, digits))), it->substr(digits + 1)};
  }
  return {};
}

class SourceScan {
 public:
  /// `prefix` stands before the ids.
  SourceScan(const SourceConfig& source, std::string prefix, Index& index)
      : source_(source), root_(source.path), prefix_(std::move(prefix)), index_(index) {}

  void run() {
    EMULSION_CHECK(
        std::filesystem::exists(root_), not_found,
        "[data.sources] expected the folder \"{}\", got no such file or folder; relative "
        "paths start at {}",
        root_.string(), std::filesystem::current_path().string());
    EMULSION_CHECK(std::filesystem::is_directory(root_), not_found,
                   "[data.sources] expected a folder, got the file \"{}\"; give the folder that "
                   "holds it",
                   root_.string());
    const Listing listing = list_files(root_);
    if (listing.pictures.empty()) refuse_empty(root_, listing);
    watch(listing.watched);
    if (std::filesystem::is_directory(source_.mask)) watch(list_files(source_.mask).watched);
    if (source_.caption.empty()) {
      for (const auto& file : listing.metadata) {
        watch(file);
        read_metadata(file, metadata_, index_.problems);
      }
    }
    for (const auto& picture : listing.pictures) {
      if (!is_mask(source_, picture)) add(picture);
    }
  }

 private:
  void watch(const path& file) { index_.watched.push_back({file, file_state(file)}); }
  void watch(const std::vector<Watched>& files) {
    index_.watched.insert(index_.watched.end(), files.begin(), files.end());
  }

  void add(const path& picture) {
    Sample sample;
    sample.path = picture;
    sample.state = file_state(picture);
    const path relative = picture.lexically_relative(root_);
    sample.id = prefix_ + relative.generic_string();
    const Repeated repeated = repeats_of(relative, root_);
    sample.repeats = source_.repeats * repeated.repeats;
    sample.weight = source_.weight;
    sample.prior_prediction = source_.prior_prediction;
    try {
      const auto info = io::probe_image(picture);
      sample.width = info.width;
      sample.height = info.height;
      sample.has_alpha = info.has_alpha;
      if (!add_caption(sample, repeated.name) || !add_mask(sample)) return watch_files(index_, sample);
      ++index_.formats[info.format];
      ++index_.caption_origins[origin_];
      index_.samples.push_back(sample);
    } catch (const Error& error) {
      index_.problems.push_back(
          {picture, picture.string(), error.what(), "picture left out; replace it, or delete it"});
      watch_files(index_, sample);
    }
  }

  /// False if the picture has to be left out.
  bool add_caption(Sample& sample, const std::string& folder_name) {
    const CaptionResult caption = caption_of(sample.path, folder_name);
    sample.caption_file = caption.file;
    if (!caption.file.empty()) sample.state = joined_states(sample.state, file_state(caption.file));
    if (caption.problem) {
      index_.problems.push_back(*caption.problem);
      return false;
    }
    for (const std::string& text : caption.captions) {
      for (std::string& sentence : decorated(text, source_)) sample.captions.push_back(std::move(sentence));
    }
    return true;
  }

  /// False if the picture has to be left out.
  bool add_mask(Sample& sample) {
    const MaskResult mask = find_mask(source_, sample);
    if (mask.problem) index_.problems.push_back(*mask.problem);
    sample.mask = mask.path;
    if (has_own_mask(sample)) sample.state = joined_states(sample.state, file_state(sample.mask));
    return mask.usable;
  }

  // Also notes in origin_ where it came from.
  CaptionResult caption_of(const path& picture, const std::string& folder_name) {
    if (!source_.caption.empty()) {
      origin_ = "fixed";
      return {{source_.caption}, {}};
    }
    if (const auto it = metadata_.find(picture.lexically_normal().string());
        it != metadata_.end()) {
      origin_ = "metadata";
      return {it->second, {}};
    }
    if (auto found = sidecar_caption(picture)) {
      origin_ = "sidecar";
      return *found;
    }
    if (!folder_name.empty()) {
      origin_ = "folder name";
      return {{folder_name}, {}};
    }
    const std::string stem = picture.stem().string();
    std::string name = invalid_utf8_offset(stem) ? "" : caption_from_name(stem);
    origin_ = name.empty() ? "none" : "file name";
    return {{std::move(name)}, {}};
  }

  const SourceConfig& source_;
  path root_;
  std::string prefix_;
  Index& index_;
  Metadata metadata_;
  const char* origin_ = "none";
};

// What stands before the ids of each of several sources: "<folder>/", and "<folder>#2/" for a second folder of that name.
std::vector<std::string> id_prefixes(const DataConfig& config) {
  if (config.sources.size() == 1) return {""};
  std::map<std::string, int> uses;
  std::vector<std::string> prefixes;
  for (const SourceConfig& source : config.sources) {
    const path folder = std::filesystem::absolute(source.path).lexically_normal();
    std::string name = (folder.has_filename() ? folder : folder.parent_path()).filename().string();
    if (const int n = ++uses[name]; n > 1) name += fmt::format("#{}", n);
    prefixes.push_back(name + "/");
  }
  return prefixes;
}

}  // namespace

std::string to_string(const Problem& problem) {
  return fmt::format("{}: {}; {}", problem.place, problem.reason, problem.action);
}

int64_t Index::draws() const {
  int64_t sum = 0;
  for (size_t i = 0; i < samples.size(); ++i) sum += samples.facts(i).repeats;
  return sum;
}

void watch_files(Index& index, const Sample& sample) {
  // What changed since it was read is to be read again.
  const bool as_read = present_state(sample) == sample.state;
  index.watched.push_back({sample.path, as_read ? file_state(sample.path) : 0});
  for (const path& file : {sample.caption_file, sample.mask}) {
    if (!file.empty()) index.watched.push_back({file, file_state(file)});
  }
}

Index scan(const DataConfig& config) {
  Index index;
  const std::vector<std::string> prefixes = id_prefixes(config);
  for (size_t s = 0; s < config.sources.size(); ++s) SourceScan(config.sources[s], prefixes[s], index).run();
  return index;
}

std::string content_hash(const Sample& sample) { return sample.content.empty() ? io::sha256_file(sample.path) : sample.content; }

}  // namespace emulsion::data
