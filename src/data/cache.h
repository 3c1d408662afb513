// Computed tensors kept on disk by key: latents, text states.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace emulsion::data {

/// An append-only file of tensors under keys. A key names content and everything the tensors
/// depend on, so an entry is never changed. Whatever was put before a process died is there when
/// the file is opened again; a record torn by the end of the process is dropped. Only one
/// object, in one process, has a file open. Safe to use from several threads.
class TensorCache {
 public:
  /// Opens or creates `<folder>/<name>-<hash of settings>.cache`. `settings` is everything that all
  /// entries depend on, e.g. the hash of the encoder's weights and the resolution.
  /// Throws: Error{io}, also if the file is in use; Error{format} if it is something else.
  TensorCache(const std::filesystem::path& folder, const std::string& name,
              const std::string& settings);
  ~TensorCache();
  TensorCache(const TensorCache&) = delete;
  TensorCache& operator=(const TensorCache&) = delete;

  /// Stores a copy under a key that is not empty. A key that is there already is left as it is.
  /// Throws: Error{io}, e.g. when the disk is full: the file then is as before.
  void put(const std::string& key, const std::vector<Tensor>& tensors);

  bool contains(const std::string& key) const;

  /// CPU tensors of the dtypes and shapes that were put.
  /// Throws: Error{not_found}; Error{format} if the record is damaged.
  std::vector<Tensor> get(const std::string& key) const;

  int64_t size() const;
  const std::filesystem::path& path() const;

  /// Makes everything durable against power failure.
  void flush();

 private:
  class File;
  std::unique_ptr<File> file_;
};

/// One thing to compute. Items of different groups (e.g. picture sizes) are never computed
/// together.
struct CacheItem {
  std::string key;
  int64_t group = 0;
};

/// The keys of several parts joined unambiguously.
std::string cache_key(std::initializer_list<std::string> parts);

using Tensors = std::vector<Tensor>;

/// Computes what is missing. `compute` gets the places in `items` of at most `batch` items of one
/// group and returns the tensors of each. `progress(done, total)` counts missing items only, and is
/// called first with done = 0. When `stop` says so, returns early; what is done is kept.
/// Returns whether everything is there.
bool fill_cache(TensorCache& cache, std::span<const CacheItem> items, int64_t batch,
                const std::function<std::vector<Tensors>(std::span<const int64_t>)>& compute,
                const std::function<void(int64_t, int64_t)>& progress = {},
                const std::function<bool()>& stop = {});

}  // namespace emulsion::data
