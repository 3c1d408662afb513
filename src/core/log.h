// Logging below the application: levels and text, nothing else. Goes to stderr; the application decides the level.
#pragma once

#include <fmt/format.h>

#include <string>

namespace emulsion::log {

enum class Level { debug, info, warning, error };

/// Messages below `level` are dropped. Default: info.
void set_level(Level level);

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
