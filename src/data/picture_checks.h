// Whether every pixel of every picture can be read, and which pictures need no second look.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/progress.h"
#include "data/index.h"

namespace emulsion::data {

class PictureChecks {
 public:
  PictureChecks() = default;
  /// Takes over what an earlier `save` noted in `record`: a picture counts as good while path, size and time of its file (and its
  /// mask's) stay as they were. A file that is missing or not one of these notes nothing.
  explicit PictureChecks(std::filesystem::path record);

  /// Decodes every picture that is not known as good in `threads` threads; those that fail move from samples to problems. Throws
  /// Error{cancelled} when the user wishes to stop; the index is then as it was.
  void run(Index& index, Reporter& reporter, int threads = 2);

  /// Notes the good pictures of the last run. Throws: Error{io}.
  void save() const;

 private:
  std::filesystem::path record_;
  std::vector<uint64_t> good_;  // sorted
};

}  // namespace emulsion::data
