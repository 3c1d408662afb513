// Logging below the application: levels and text, nothing else. Goes to stderr; the application decides the level.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>

namespace emulsion::log {

enum class Level { debug, info, warning, error };

/// Messages below `level` are dropped. Default: info.
void set_level(Level level);

/// While it lives, lines go to `write` instead of stderr: a progress line must not be written into. One at a time.
class Redirect {
 public:
  explicit Redirect(std::function<void(const std::string& line)> write);
  ~Redirect();
  Redirect(const Redirect&) = delete;
  Redirect& operator=(const Redirect&) = delete;
};

/// Writes one line. Thread-safe.
void write(Level level, const std::string& message);

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace emulsion::log
