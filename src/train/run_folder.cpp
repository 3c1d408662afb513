#include "train/run_folder.h"

#include <algorithm>

#include "config/config.h"
#include "core/error.h"
#include "core/log.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"

namespace emulsion::train {
namespace {

namespace fs = std::filesystem;
constexpr const char* kConfig = "config.toml";
constexpr const char* kFinished = "finished";

void make_folder(const fs::path& path) {
  std::error_code failure;
  fs::create_directories(path, failure);
  EMULSION_CHECK(!failure, io, "[run folder] cannot create '{}': {}; choose another place with --set output=FOLDER",
                 path.string(), failure.message());
}

}  // namespace

RunFolder::RunFolder(const RunConfig& config) : path_(fs::path(config.output) / config.name) {
  const fs::path file = path_ / kConfig;
  if (fs::exists(file)) {
    const auto before = config::from_toml<RunConfig>(io::read_file(file), file.string());
    const RunConfig allowed = adopted(before, config);
    const std::string refused = config::diff(allowed, config);
    EMULSION_CHECK(refused.empty(), config,
                   "[run folder] '{}' holds a run with other settings (there -> now):\n{}"
                   "{}go on with the old settings, or start a new run with --set name=NAME, or remove the folder",
                   path_.string(), refused,
                   allowed.steps == config.steps ? "" : "(steps can change while that changes no learning rate of the steps done)\n");
    changed_ = config::diff(before, config);
    if (config.steps > before.steps) fs::remove(path_ / kFinished);
    if (!changed_.empty()) io::write_file_atomic(file, config::to_toml(config));
  } else {
    make_folder(path_);
    io::write_file_atomic(file, config::to_toml(config));
  }
  for (const char* name : {"checkpoints", "previews", "tensorboard", "cache"}) make_folder(path_ / name);
  io::remove_stale_temporaries(path_);
  for (const auto& entry : fs::recursive_directory_iterator(path_)) {  // a result may be half written too
    if (entry.is_directory()) io::remove_stale_temporaries(entry.path());
  }
}

/// The settings of `before`, with those of `now` that may change.
RunConfig RunFolder::adopted(const RunConfig& before, const RunConfig& now) const {
  RunConfig all = before;
  all.preview = now.preview;
  all.validation = now.validation;
  all.checkpoint = now.checkpoint;
  all.loader_threads = now.loader_threads;
  all.gradient_checkpointing = now.gradient_checkpointing;
  all.memory_limit = now.memory_limit;
  const int64_t done = steps_done();
  const bool state_is_there = done == before.steps || !fs::exists(path_ / kFinished);
  if (now.steps >= done && state_is_there && optim::agree(before.schedule, done, before.steps, now.steps)) all.steps = now.steps;
  return all;
}

int64_t RunFolder::steps_done() const {
  const auto found = states();
  if (found.empty()) return 0;
  const std::string name = found.back().stem().string();
  return std::stoll(name.substr(name.find('-') + 1));
}

std::vector<fs::path> RunFolder::states() const {
  std::vector<fs::path> found;
  if (!fs::exists(path_ / "checkpoints")) return found;
  for (const auto& entry : fs::directory_iterator(path_ / "checkpoints")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.ends_with(".safetensors")) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

void RunFolder::save_state(const State& state, int64_t keep) {
  io::write_safetensors(path_ / "checkpoints" / fmt::format("step-{:08}.safetensors", state.step), state.tensors,
                        {{"format", "emulsion-state-1"}, {"step", std::to_string(state.step)}});
  auto found = states();
  while (static_cast<int64_t>(found.size()) > keep) {
    fs::remove(found.front());
    found.erase(found.begin());
  }
}

std::optional<RunFolder::State> RunFolder::load_state() const {
  auto found = states();
  for (auto path = found.rbegin(); path != found.rend(); ++path) {
    try {
      const auto file = io::SafetensorsFile::open(*path);
      State state;
      state.step = std::stoll(file.metadata().at("step"));
      state.tensors = file.tensors();
      return state;
    } catch (const std::exception& error) {
      log::warning("{} is damaged and passed over: {}", path->string(), error.what());
    }
  }
  return std::nullopt;
}

void RunFolder::mark_finished(const fs::path& result) { io::write_file_atomic(path_ / kFinished, result.string() + "\n"); }

std::optional<fs::path> RunFolder::finished_result() const {
  if (!fs::exists(path_ / kFinished)) return std::nullopt;
  std::string text = io::read_file(path_ / kFinished);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return fs::path(text);
}

}  // namespace emulsion::train
