#include "terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "core/device.h"
#include "io/jsonl.h"
#include "text.h"

namespace emulsion::app {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr double kForgetSeconds = 30;
constexpr int64_t kBarColumns = 20;
constexpr const char* kClearLine = "\r\x1b[K";

std::string amount(const Phase& phase) {
  const std::string done = human_count(phase.done);
  if (phase.total <= 0) return counted(phase.done, phase.unit);
  return fmt::format("{}/{} {}", done, human_count(phase.total), phase.unit);
}

std::string speed(const Phase& phase) {
  const double seconds = phase.seconds_per_unit();
  if (seconds <= 0) return "";
  if (seconds < 0.01) return fmt::format("{:.0f} {}/s", 1 / seconds, phase.unit);
  return fmt::format("{:.3g} s/{}", seconds, singular(phase.unit));
}

std::string bar(const Phase& phase, int64_t columns, const Surroundings& world) {
  const double share = static_cast<double>(phase.done) / static_cast<double>(phase.total);
  const auto full = std::clamp<int64_t>(static_cast<int64_t>(share * columns), 0, columns);
  std::string text = world.colour ? "\x1b[36m" : "";
  for (int64_t i = 0; i < full; ++i) text += world.unicode ? "━" : "#";
  if (world.colour) text += "\x1b[90m";
  for (int64_t i = full; i < columns; ++i) text += world.unicode ? "─" : "-";
  return text + (world.colour ? "\x1b[0m" : "");
}

/// Pieces of a line without the bar; the first ones matter most.
std::vector<std::string> pieces(const Phase& phase, const Surroundings& world) {
  std::vector<std::string> result;
  if (phase.total > 0) result.push_back(fmt::format("{:.0f}%", 100.0 * phase.done / phase.total));
  result.push_back(amount(phase));
  for (const auto& [name, value] : phase.figures) {
    result.push_back(fmt::format("{} {:.4g}", name, value));
  }
  if (const std::string text = speed(phase); !text.empty()) result.push_back(text);
  if (const double left = phase.seconds_left(); left >= 0) {
    result.push_back(human_seconds(left) + " left");
  }
  result.push_back(human_bytes(world.memory()));
  return result;
}

std::string joined(const std::vector<std::string>& parts, const char* between) {
  return fmt::format("{}", fmt::join(parts, between));
}

std::string announcement(const Phase& phase) {
  std::string text = phase.what;
  if (phase.total > 0) text += ": " + counted(phase.total, phase.unit);
  if (phase.first > 0) text += fmt::format(", {} of them done before", human_count(phase.first));
  return text;
}

std::string outcome(const Phase& phase, const std::string& summary, double now) {
  const std::string time = human_seconds(now - phase.began);
  if (phase.total > 0 && phase.done < phase.total) {
    return fmt::format("stopped at {} after {}{}", amount(phase), time,
                       summary.empty() ? "" : "; " + summary);
  }
  return fmt::format("done in {}{}", time, summary.empty() ? "" : "; " + summary);
}

int64_t terminal_width() {
  winsize size = {};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    const std::string_view text = value;
    return text.find("UTF-8") != text.npos || text.find("utf8") != text.npos;
  }
  return false;
}

void write_to(std::FILE* stream, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stream);
  std::fflush(stream);
}

Surroundings real_surroundings(std::FILE* stream) {
  Surroundings world;
  world.write = [stream](std::string_view text) { write_to(stream, text); };
  world.now = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  world.memory = resident_memory_bytes;
  world.width = terminal_width;
  world.colour = stderr_has_colour();
  world.unicode = locale_is_utf8();
  return world;
}

}  // namespace

Phase::Phase(std::string what, int64_t total, std::string unit, int64_t done, double now)
    : what(std::move(what)),
      unit(std::move(unit)),
      total(total),
      first(done),
      done(done),
      began(now),
      shown_done(done),
      last_(now) {}

void Phase::advance(int64_t now_done, double now) {
  const double elapsed = now - last_;
  if (now_done > done) {
    const double keep = std::exp(-elapsed / kForgetSeconds);
    weighted_seconds_ = weighted_seconds_ * keep + elapsed;
    weighted_units_ = weighted_units_ * keep + static_cast<double>(now_done - done);
    last_ = now;
  }
  done = now_done;
}

double Phase::seconds_per_unit() const {
  return weighted_units_ > 0 ? weighted_seconds_ / weighted_units_ : 0;
}

double Phase::seconds_left() const {
  const double rate = seconds_per_unit();
  return rate > 0 && total > done ? rate * static_cast<double>(total - done) : -1;
}

void PhaseReporter::begin(const std::string& what, int64_t total, const std::string& unit,
                          int64_t done) {
  const std::lock_guard lock(mutex_);
  phases_.emplace_back(what, total, unit, done, world_.now());
  phases_.back().last_shown = world_.now();
  show_begin(phases_.back());
}

void PhaseReporter::advance(int64_t done, const Figures& figures) {
  const std::lock_guard lock(mutex_);
  if (phases_.empty()) return;
  Phase& phase = phases_.back();
  phase.advance(done, world_.now());
  if (!figures.empty()) phase.figures = figures;
  show_progress(phase);
}

void PhaseReporter::end(const std::string& summary) {
  const std::lock_guard lock(mutex_);
  if (phases_.empty()) return;
  show_end(phases_.back(), summary);
  phases_.pop_back();
}

void PhaseReporter::resume() {
  const std::lock_guard lock(mutex_);
  if (!phases_.empty()) phases_.back().resume(world_.now());
}

void PhaseReporter::note(const std::string& text) {
  const std::lock_guard lock(mutex_);
  show_note(text);
}

std::string TerminalReporter::line(const Phase& phase) const {
  const int64_t width = world_.width() - 1;
  std::vector<std::string> parts = pieces(phase, world_);
  if (within()) parts.insert(parts.begin(), phase.what);
  while (parts.size() > 1 && display_width(joined(parts, "  ")) + 2 > width) parts.pop_back();
  const std::string text = shortened(joined(parts, "  "), std::max<int64_t>(1, width - 2));
  const int64_t room = width - 4 - display_width(text);
  const bool with_bar = phase.total > 0 && room >= 5;
  return "  " + (with_bar ? bar(phase, std::min(room, kBarColumns), world_) + "  " : "") + text;
}

void TerminalReporter::show_begin(const Phase& phase) {
  if (within()) return;  // the progress line names it while it lasts
  const char* on = world_.colour ? "\x1b[1m" : "";
  const char* off = world_.colour ? "\x1b[0m" : "";
  world_.write(fmt::format("{}{}{}\n", on, announcement(phase), off));
}

void TerminalReporter::show_progress(Phase& phase) {
  const double now = world_.now();
  if (now - phase.last_shown < kRedrawSeconds && phase.done != phase.total) return;
  phase.last_shown = now;
  world_.write(kClearLine + line(phase));
}

void TerminalReporter::show_end(const Phase& phase, const std::string& summary) {
  if (within() && summary.empty()) {
    world_.write(kClearLine);
    return;
  }
  const std::string name = within() ? phase.what + ": " : "";
  world_.write(fmt::format("{}  {}{}\n", kClearLine, name, outcome(phase, summary, world_.now())));
}

void TerminalReporter::show_note(const std::string& text) {
  Phase* phase = current();
  world_.write(fmt::format("{}{}\n{}", kClearLine, text, phase != nullptr ? line(*phase) : ""));
}

void PlainReporter::show_begin(const Phase& phase) {
  if (within()) return;  // only what lasts gets a line
  world_.write(announcement(phase) + "\n");
}

void PlainReporter::show_progress(Phase& phase) {
  const double now = world_.now();
  const double since = now - phase.last_shown;
  const bool tenth =
      phase.total > 0 && phase.done * 10 / phase.total > phase.shown_done * 10 / phase.total;
  if (since < 2 || (since < 10 && !tenth)) return;
  phase.last_shown = now;
  phase.shown_done = phase.done;
  world_.write(fmt::format("{}: {}\n", phase.what, joined(pieces(phase, world_), ", ")));
}

void PlainReporter::show_end(const Phase& phase, const std::string& summary) {
  if (within() && phase.shown_done == phase.first && summary.empty()) return;
  world_.write(fmt::format("{}: {}\n", phase.what, outcome(phase, summary, world_.now())));
}

void PlainReporter::show_note(const std::string& text) { world_.write(text + "\n"); }

void JsonReporter::show_begin(const Phase& phase) {
  world_.write(io::json_line({{"event", "begin"},
                              {"phase", phase.what},
                              {"total", phase.total},
                              {"unit", phase.unit},
                              {"done", phase.first}}) +
               "\n");
}

void JsonReporter::show_progress(Phase& phase) {
  const double now = world_.now();
  const bool soon = now - phase.last_shown < kRedrawSeconds && phase.done != phase.total;
  if (phase.figures.empty() && soon) return;
  phase.last_shown = now;
  io::JsonFields fields = {{"event", "progress"},
                           {"phase", phase.what},
                           {"done", phase.done},
                           {"total", phase.total},
                           {"seconds_per_unit", phase.seconds_per_unit()},
                           {"memory_bytes", world_.memory()}};
  if (const double left = phase.seconds_left(); left >= 0)
    fields.emplace_back("seconds_left", left);
  for (const auto& [name, value] : phase.figures) fields.emplace_back(name, value);
  phase.figures.clear();
  world_.write(io::json_line(fields) + "\n");
}

void JsonReporter::show_end(const Phase& phase, const std::string& summary) {
  world_.write(io::json_line({{"event", "end"},
                              {"phase", phase.what},
                              {"done", phase.done},
                              {"total", phase.total},
                              {"seconds", world_.now() - phase.began},
                              {"summary", summary}}) +
               "\n");
}

void JsonReporter::show_note(const std::string& text) {
  world_.write(io::json_line({{"event", "note"}, {"text", text}}) + "\n");
}

bool stderr_has_colour() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return isatty(STDERR_FILENO) != 0 && (no_color == nullptr || *no_color == '\0') &&
         (terminal == nullptr || std::string_view(terminal) != "dumb");
}

std::unique_ptr<Reporter> make_reporter(bool json) {
  const auto made = [](auto reporter) -> std::unique_ptr<Reporter> {
    reporter->show_log();
    return reporter;
  };
  if (json) return made(std::make_unique<JsonReporter>(real_surroundings(stdout)));
  if (isatty(STDERR_FILENO) != 0) {
    return made(std::make_unique<TerminalReporter>(real_surroundings(stderr)));
  }
  return made(std::make_unique<PlainReporter>(real_surroundings(stderr)));
}

}  // namespace emulsion::app
