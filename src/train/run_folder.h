// The folder of a run: runs/<name>/{config.toml, metrics.jsonl, tensorboard/, previews/, checkpoints/, cache/, result}.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "train/config.h"

namespace emulsion::train {

class RunFolder {
 public:
  /// Creates the folder, or opens the one that is there.
  /// Throws: Error{config} if it belongs to a run with other settings, listing them; Error{io} if it cannot be written.
  explicit RunFolder(const RunConfig& config);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

  struct State {
    int64_t step = 0;      // optimizer steps done
    NamedTensors tensors;  // whatever was saved
  };
  /// Writes checkpoints/step-XXXXXXXX.safetensors atomically and removes all but the newest `keep`.
  void save_state(const State& state, int64_t keep);
  /// The newest state that is whole; a damaged one is passed over with a warning. Nothing if there is none.
  std::optional<State> load_state() const;

  /// Marks the run as finished with its result; the path of the result of a finished run.
  void mark_finished(const std::filesystem::path& result);
  std::optional<std::filesystem::path> finished_result() const;

 private:
  std::vector<std::filesystem::path> states() const;  // oldest first
  std::filesystem::path path_;
};

}  // namespace emulsion::train
