#include "train/text_cache.h"

#include <unordered_set>

#include "core/error.h"
#include "core/random.h"
#include "core/stop.h"

namespace emulsion::train {
namespace {

constexpr int64_t kOnDisk = int64_t{64} << 30, kInMemory = int64_t{512} << 20;  // bytes

/// Every caption of the index and "", those that several pictures have several times.
void for_each_caption(const data::Index& index, const std::function<void(const std::string&)>& f) {
  f("");
  for (const data::Sample& sample : index.samples) {
    for (const std::string& caption : sample.captions) f(caption);
  }
}

int64_t count_different(const data::Index& index) {
  std::unordered_set<uint64_t> seen;
  for_each_caption(index, [&](const std::string& caption) { seen.insert(hash_name(caption)); });
  return static_cast<int64_t>(seen.size());
}

int64_t room_in(const std::filesystem::path& folder) {
  std::error_code none;
  std::filesystem::create_directories(folder, none);
  const auto space = std::filesystem::space(folder, none);
  return none ? 0 : static_cast<int64_t>(std::min<uintmax_t>(space.available, INT64_MAX));
}

}  // namespace

TextPlace text_place(int64_t bytes, int64_t room) {
  if (bytes <= std::min(kOnDisk, room / 2)) return TextPlace::disk;
  return bytes <= kInMemory ? TextPlace::memory : TextPlace::nowhere;
}

TextCache::TextCache(const data::Index& index, const Encode& encode, const std::function<std::string()>& settings,
                     const std::filesystem::path& folder, Reporter& reporter, std::optional<int64_t> room) {
  const models::Conditioning first = encode("");
  options_ = first.context.options();
  const int64_t different = count_different(index);
  const auto each = static_cast<int64_t>(first.context.nbytes() + (first.pooled.defined() ? first.pooled.nbytes() : 0));
  place_ = text_place(different * each, room ? *room : room_in(folder));
  if (!complete()) {
    reporter.note(fmt::format("the states of {} captions would take {:.1f} GB: each is encoded when its picture comes", different,
                              static_cast<double>(different * each) / 1e9));
    return;
  }
  if (place_ == TextPlace::disk) disk_ = std::make_unique<data::TensorCache>(folder, "texts", settings());
  const int64_t missing = different - (disk_ ? disk_->size() : 0);
  std::optional<Progress> progress;  // none if all are there
  int64_t done = 0;
  for_each_caption(index, [&](const std::string& caption) {
    if (contains(caption)) return;
    EMULSION_CHECK(!stop_requested(), cancelled, "stopped while encoding captions{}", disk_ ? "; what is encoded is kept" : "");
    if (!progress) progress.emplace(reporter, "Encoding captions", std::max<int64_t>(missing, 1), "captions");
    put(caption, caption.empty() ? first : encode(caption));
    progress->advance(++done);
  });
  if (disk_) disk_->flush();
}

bool TextCache::contains(const std::string& caption) const {
  return disk_ ? disk_->contains(data::cache_key({caption})) : memory_.contains(caption);
}

void TextCache::put(const std::string& caption, const models::Conditioning& states) {
  if (!disk_) {
    memory_.emplace(caption, states);
    return;
  }
  data::Tensors tensors = {states.context};
  if (states.pooled.defined()) tensors.push_back(states.pooled);
  disk_->put(data::cache_key({caption}), tensors);
}

models::Conditioning TextCache::at(const std::string& caption) const {
  if (!disk_) return memory_.at(caption);
  const data::Tensors kept = disk_->get(data::cache_key({caption}));
  models::Conditioning states = {kept.front().to(options_)};
  if (kept.size() > 1) states.pooled = kept[1].to(options_);
  return states;
}

}  // namespace emulsion::train
