// What the text encoders said about captions, kept for the run.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "core/progress.h"
#include "data/cache.h"
#include "data/index.h"
#include "models/unet.h"

namespace emulsion::train {

/// Where the states of an index's captions are kept.
enum class TextPlace {
  disk,    // encoded once for all starts
  memory,  // few, where the disk is full or cannot be written: encoded at every start
  nowhere  // too many: each is encoded when its picture comes
};

/// `bytes`: of all of them; `room`: what is free on the disk.
TextPlace text_place(int64_t bytes, int64_t room);

/// Text states by caption: contexts [1, 77 n, D] and pooled [1, P].
class TextCache {
 public:
  using Encode = std::function<models::Conditioning(const std::string& caption)>;

  /// Encodes the captions of `index` and "" as far as they are not kept yet. `settings` tells everything that their states depend on;
  /// it is asked for only where they go to the disk, into `folder`, which has `room` bytes free (as the system says, where none is
  /// given). Throws: Error{cancelled}, what is on the disk is kept; Error{io}.
  TextCache(const data::Index& index, const Encode& encode, const std::function<std::string()>& settings,
            const std::filesystem::path& folder, Reporter& reporter, std::optional<int64_t> room = std::nullopt);

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
