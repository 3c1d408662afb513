// How long work tells how far it is. Libraries report here; the application decides how it looks.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace emulsion {

/// Named figures that go with a report, e.g. {"loss", 0.123}.
using Figures = std::vector<std::pair<std::string, double>>;

class Reporter {
 public:
  virtual ~Reporter() = default;

  /// A phase begins: what it does and how much there is of it ("Encoding pictures", 64, "pictures"). `done` > 0 when it goes on.
  virtual void begin(const std::string& what, int64_t total, const std::string& unit, int64_t done = 0) {}
  /// So much of the phase is done.
  virtual void advance(int64_t done, const Figures& figures = {}) {}
  /// What took place since the last report (a preview, a checkpoint) was not the phase's work, and says nothing about its speed.
  virtual void resume() {}
  /// The phase is over. `summary` may be empty.
  virtual void end(const std::string& summary = "") {}
  /// Something that the user should read, on a line of its own.
  virtual void note(const std::string& text) {}
};

/// A phase as long as it lives: one that an exception ends is ended, too.
class Progress {
 public:
  Progress(Reporter& reporter, const std::string& what, int64_t total, const std::string& unit, int64_t done = 0)
      : reporter_(reporter) {
    reporter_.begin(what, total, unit, done);
  }
  ~Progress() { reporter_.end(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(int64_t done, const Figures& figures = {}) { reporter_.advance(done, figures); }
  void resume() { reporter_.resume(); }

 private:
  Reporter& reporter_;
};

}  // namespace emulsion
