// What the text encoders said about captions, kept for the run.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "core/progress.h"
#include "data/cache.h"
#include "data/index.h"
#include "models/unet.h"

namespace emulsion::train {

/// Where the states of an index's captions are kept.
enum class TextPlace {
  memory,  // few: encoded at every start
  disk,    // encoded once for all starts
  nowhere  // too many: each is encoded when its picture comes
};

constexpr int64_t kTextsInMemory = int64_t{512} << 20;  // bytes

/// `bytes`: of all of them; `room`: what is free on the disk; `in_memory`: what may stay there.
TextPlace text_place(int64_t bytes, int64_t room, int64_t in_memory = kTextsInMemory);

/// Text states by caption: contexts [1, 77 n, D] and pooled [1, P].
class TextCache {
 public:
  using Encode = std::function<models::Conditioning(const std::string& caption)>;

  /// Encodes the captions of `index` and "" as far as they are not kept yet. `settings` tells everything that their states depend on;
  /// it is asked for only where they go to the disk, into `folder`. Throws: Error{cancelled}, what is on the disk is kept; Error{io}.
  TextCache(const data::Index& index, const Encode& encode, const std::function<std::string()>& settings,
            const std::filesystem::path& folder, Reporter& reporter, int64_t in_memory = kTextsInMemory);

  /// Whether `at` can be asked; otherwise captions are to be encoded as they come.
  bool complete() const { return place_ != TextPlace::nowhere; }

  models::Conditioning at(const std::string& caption) const;

 private:
  bool contains(const std::string& caption) const;
  void put(const std::string& caption, const models::Conditioning& states);

  TextPlace place_;
  std::unordered_map<std::string, models::Conditioning> memory_;
  std::unique_ptr<data::TensorCache> disk_;
  at::TensorOptions options_;  // of the states
};

}  // namespace emulsion::train
