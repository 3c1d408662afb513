// How progress looks: one redrawn line on a terminal, plain lines elsewhere, JSON lines for
// programs.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/log.h"
#include "core/progress.h"

namespace emulsion::app {

/// What a reporter needs of the world; tests give their own.
struct Surroundings {
  std::function<void(std::string_view)> write;
  std::function<double()> now;      // seconds
  std::function<int64_t()> memory;  // resident bytes
  std::function<int64_t()> width;   // columns of the terminal
  bool colour = false;
  bool unicode = false;
};

/// One phase while it runs; phases may lie within each other.
class Phase {
 public:
  Phase(std::string what, int64_t total, std::string unit, int64_t done, double now);

  /// So much is done now.
  void advance(int64_t done, double now);

  /// What passed since the last `advance` says nothing about its speed.
  void resume(double now) { last_ = now; }

  /// Seconds per unit, recent ones counting most (their weight falls to 1/e in 30 s); 0 if unknown.
  double seconds_per_unit() const;
  /// Seconds until `total` is reached; -1 if unknown.
  double seconds_left() const;

  std::string what, unit;
  int64_t total, first, done;
  double began;
  double last_shown = -1e9;  // when a line about it was written
  int64_t shown_done = 0;    // and what was done then
  Figures figures;

 private:
  double last_;
  double weighted_seconds_ = 0, weighted_units_ = 0;
};

/// Keeps the phases; subclasses show them. Safe to use from several threads.
class PhaseReporter : public Reporter {
 public:
  explicit PhaseReporter(Surroundings surroundings) : world_(std::move(surroundings)) {}

  void begin(const std::string& what, int64_t total, const std::string& unit, int64_t done) final;
  void advance(int64_t done, const Figures& figures) final;
  void resume() final;
  void end(const std::string& summary) final;
  void note(const std::string& text) final;

  /// From now on, what is logged is shown as notes.
  void show_log() {
    log_.emplace([this](const std::string& line) { note(line); });
  }

 protected:
  virtual void show_begin(const Phase& phase) = 0;
  virtual void show_progress(Phase& phase) = 0;
  virtual void show_end(const Phase& phase, const std::string& summary) = 0;
  virtual void show_note(const std::string& text) = 0;

  bool within() const { return phases_.size() > 1; }
  Phase* current() { return phases_.empty() ? nullptr : &phases_.back(); }

  Surroundings world_;

 private:
  std::vector<Phase> phases_;
  std::mutex mutex_;
  std::optional<log::Redirect> log_;
};

/// One line that is redrawn at most ten times a second; everything else scrolls above it.
class TerminalReporter : public PhaseReporter {
 public:
  using PhaseReporter::PhaseReporter;

 protected:
  void show_begin(const Phase& phase) override;
  void show_progress(Phase& phase) override;
  void show_end(const Phase& phase, const std::string& summary) override;
  void show_note(const std::string& text) override;

 private:
  std::string line(const Phase& phase) const;
};

/// A line when a phase begins and ends, and in between every 10 s, or every tenth if that is at
/// least 2 s after the last. A phase within another has only the lines in between.
class PlainReporter : public PhaseReporter {
 public:
  using PhaseReporter::PhaseReporter;

 protected:
  void show_begin(const Phase& phase) override;
  void show_progress(Phase& phase) override;
  void show_end(const Phase& phase, const std::string& summary) override;
  void show_note(const std::string& text) override;
};

/// {"event": "begin" | "progress" | "end" | "note", ...}, a line each. Progress with figures is
/// never left out; without, at most ten times a second.
class JsonReporter : public PhaseReporter {
 public:
  using PhaseReporter::PhaseReporter;

 protected:
  void show_begin(const Phase& phase) override;
  void show_progress(Phase& phase) override;
  void show_end(const Phase& phase, const std::string& summary) override;
  void show_note(const std::string& text) override;
};

/// The reporter for this process: JSON lines on stdout if `json`; otherwise on stderr, a redrawn
/// line if it is a terminal, plain lines if not. NO_COLOR (https://no-color.org) is honoured.
std::unique_ptr<Reporter> make_reporter(bool json);

/// Whether stderr takes colours.
bool stderr_has_colour();

}  // namespace emulsion::app
