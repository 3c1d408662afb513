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
  /// Creates the folder, or opens the one that is there. Between two starts of a run those settings may change that decide nothing of
  /// what it has done: what it does besides training (previews, validation, checkpoints), how it uses the machine, and `steps` as long
  /// as the schedule had given every step so far the same learning rate. A finished run that gets more steps is not finished any more.
  /// Throws: Error{config} if it belongs to a run with other settings, listing them; Error{io} if it cannot be written.
  explicit RunFolder(const RunConfig& config);

  /// What changed since the last start, a line "path: before -> now" each.
  const std::string& changed() const { return changed_; }

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
  int64_t steps_done() const;                          // in the newest state, whole or not
  RunConfig adopted(const RunConfig& before, const RunConfig& now) const;

  std::filesystem::path path_;
  std::string changed_;
};

}  // namespace emulsion::train
