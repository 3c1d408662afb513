#include <set>

#include "core/error.h"
#include "data/cache.h"

namespace emulsion::data {
namespace {

// Places of the items to compute, each key once, grouped.
std::map<int64_t, std::vector<int64_t>> missing_by_group(const TensorCache& cache,
                                                         std::span<const CacheItem> items) {
  std::map<int64_t, std::vector<int64_t>> groups;
  std::set<std::string> seen;
  for (size_t i = 0; i < items.size(); ++i) {
    if (cache.contains(items[i].key) || !seen.insert(items[i].key).second) continue;
    groups[items[i].group].push_back(static_cast<int64_t>(i));
  }
  return groups;
}

}  // namespace

std::string cache_key(std::initializer_list<std::string> parts) {
  std::string key;
  for (const auto& part : parts) key += fmt::format("{}:{};", part.size(), part);
  return key;
}

bool fill_cache(TensorCache& cache, std::span<const CacheItem> items, int64_t batch,
                const std::function<std::vector<Tensors>(std::span<const int64_t>)>& compute,
                const std::function<void(int64_t, int64_t)>& progress,
                const std::function<bool()>& stop) {
  const auto groups = missing_by_group(cache, items);
  int64_t total = 0, done = 0;
  for (const auto& [group, places] : groups) total += static_cast<int64_t>(places.size());
  if (progress) progress(0, total);
  for (const auto& [group, places] : groups) {
    for (size_t begin = 0; begin < places.size(); begin += static_cast<size_t>(batch)) {
      if (stop && stop()) return false;
      const auto which = std::span(places).subspan(
          begin, std::min(static_cast<size_t>(batch), places.size() - begin));
      const auto results = compute(which);
      EMULSION_CHECK(results.size() == which.size(), internal,
                     "[fill_cache] expected the tensors of {} items, got {}", which.size(),
                     results.size());
      for (size_t i = 0; i < which.size(); ++i) {
        cache.put(items[static_cast<size_t>(which[i])].key, results[i]);
      }
      done += static_cast<int64_t>(which.size());
      if (progress) progress(done, total);
    }
  }
  if (total > 0) cache.flush();
  return true;
}

}  // namespace emulsion::data
